"""The layer that holds the weights of the pieces of all steps, stacked."""

import collections
import itertools
from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from widenet_keras.layers.int8_weights import (
    check_quantized_by_the_model,
    stored_in_int8,
)
from widenet_keras.layers.pieces.step_pieces import StepPieces
from widenet_keras.utils import numerics
from widenet_keras.utils.roles import Role, weight_with_role
from widenet_keras.utils.trees import rows_of


class _Stack(NamedTuple):
    """A weight of all steps that have it, (S, ...), and how it is read.

    Attributes:
        variable: What is stored.
        weight: Its `Weight`.
        scale: What int8 numbers are multiplied by, or None for floats.
    """

    variable: keras.Variable
    weight: object
    scale: keras.Variable | None = None


class StackedPieces(keras.layers.Layer):
    """Holds the weights of pieces, each with a leading axis of the steps: (L, ...).

    What only some steps have, such as changes of experts, has a row for these alone;
    what steps share with the block that they read has one for each unique block.

    Args:
        pieces: Tuple of `Piece`s.
        routed: Whether each step is a mixture of experts, a tuple of length L.
        block_of_step: Which unique block each step reads; None for its own.
        **kwargs: Passed to `keras.layers.Layer`.
    """

    def __init__(self, pieces, routed, block_of_step=None, **kwargs):
        super().__init__(**kwargs)
        self.pieces = pieces
        self.routed = routed
        self.block_of_step = block_of_step or tuple(range(len(routed)))
        self._stacks = []

    def build(self, sizes):
        """Makes the weights for blocks of these `Sizes`."""
        self._kinds = []
        for piece in self.pieces:
            wanted = piece.weights(sizes)
            self._kinds.append(collections.namedtuple(piece.kind, wanted))
            for name, weight in wanted.items():
                variable = weight_with_role(
                    self,
                    _role(weight),
                    name=f"{piece.kind}_{name}",
                    shape=(max(self._rows(weight)) + 1, *weight.shape),
                    initializer=keras.initializers.get(weight.initializer),
                    trainable=weight.trainable,
                    # As a router's: no policy rounds it.
                    dtype="float32" if weight.exact else None,
                    autocast=not weight.exact,
                )
                self._stacks.append(_Stack(variable, weight))
        self.built = True

    @property
    def of_blocks(self):
        """The variables that have a row for each unique block, a list."""
        return [s.variable for s in self._stacks if s.weight.steps == "blocks"]

    @property
    def of_some_steps(self):
        """The variables with a row for each dense, or each routed, step, a list."""
        some = ("dense", "routed")
        return [s.variable for s in self._stacks if s.weight.steps in some]

    def _rows(self, weight):
        """Returns which row each step reads, a list of length L.

        A step that has no such weight finds the row of another one; -1 everywhere if
        no step has one.
        """
        if weight.steps == "blocks":
            return self.block_of_step
        kinds = {"all": (False, True), "dense": (False,), "routed": (True,)}
        rows = np.cumsum([kind in kinds[weight.steps] for kind in self.routed]) - 1
        return np.maximum(rows, min(rows[-1], 0)).tolist()

    def read(self, read):
        """Returns the weights of all steps, a tuple of a NamedTuple for each piece.

        Each has a leading axis L; a step that has no such weight, and so never reads
        it, finds that of another one there.

        Args:
            read: Function from a Keras variable to its tensor.
        """
        values = (self._value(stack, read) for stack in self._stacks)
        return tuple(
            kind(*itertools.islice(values, len(kind._fields))) for kind in self._kinds
        )

    def of_steps(self, read):
        """Returns the `StepPieces` of every step, a list.

        Args:
            read: As for `read`.
        """
        rows = rows_of(self.read(read), len(self.routed), numerics.rows_of)
        return [StepPieces.of(self.pieces, row) for row in rows]

    def _value(self, stack, read):
        value = read(stack.variable)
        if stack.scale is not None:
            value = ops.cast(value, "float32") * read(stack.scale)
        rows = self._rows(stack.weight)
        if tuple(rows) == tuple(range(len(self.routed))):
            return value
        rows = np.maximum(rows, 0)
        return ops.take(value, ops.convert_to_tensor(rows, "int32"), axis=0)

    def quantize(self, mode, type_check=True, config=None):
        """Stores factors and prompts as int8, with a scale for each row of a step.

        Of factors a row is what one of the r inner numbers is read or written by, of a
        kernel what one of its outputs is read by.
        `WideNet.quantize` calls it. What is computed stays in float.

        Args:
            mode: "int8".
            type_check: Not used; for Keras.
            config: Not used; for Keras.

        Raises:
            NotImplementedError: If the mode is another one, or no model of ours asks.
        """
        check_quantized_by_the_model(self)
        if mode != "int8":
            raise NotImplementedError(f"StackedPieces: mode={mode!r}; use 'int8'.")
        self._stacks = [self._quantized(stack) for stack in self._stacks]

    def _quantized(self, stack):
        """Returns a `_Stack` of int8 where the weight says along which axis."""
        variable, weight, _ = stack
        if weight.int8_axis is None:
            return stack
        name = f"{variable.name}_scale"
        stored, scale = stored_in_int8(self, variable, weight.int8_axis, name)
        return _Stack(stored, weight, scale)


def _role(weight):
    """Returns the `Role` of a `Weight`."""
    return Role("pieces", "pieces", weight.decayed, "steps", weight.exact)
