"""The layer that holds the weights of the pieces of all steps, stacked."""

import collections
import itertools

import keras

from widenet_keras.utils.roles import Role, weight_with_role


class StackedPieces(keras.layers.Layer):
    """Holds the weights of pieces, each with a leading axis of the steps: (L, ...).

    Args:
        pieces: Tuple of `Piece`s.
        steps: L.
        **kwargs: Passed to `keras.layers.Layer`.
    """

    def __init__(self, pieces, steps, **kwargs):
        super().__init__(**kwargs)
        self.pieces = pieces
        self.steps = steps

    def build(self, sizes):
        """Makes the weights for blocks of these `Sizes`."""
        kinds, variables = [], []
        for piece in self.pieces:
            wanted = piece.weights(sizes)
            kinds.append(collections.namedtuple(piece.kind, wanted))
            for name, weight in wanted.items():
                role = Role("pieces", "pieces", decayed=weight.decayed, stacked="steps")
                variable = weight_with_role(
                    self,
                    role,
                    name=f"{piece.kind}_{name}",
                    shape=(self.steps, *weight.shape),
                    initializer=keras.initializers.get(weight.initializer),
                )
                variables.append(variable)
        self._kinds, self._variables = kinds, variables
        self.built = True

    def read(self, read):
        """Returns the weights of all steps, a tuple of a NamedTuple for each piece.

        Args:
            read: Function from a Keras variable to its tensor.
        """
        values = map(read, self._variables)
        return tuple(
            kind(*itertools.islice(values, len(kind._fields))) for kind in self._kinds
        )
