"""What parts of a model are worth: an optimizer that only looks at gradients."""

from collections.abc import Callable, Mapping

import keras
import numpy as np
from keras import ops


class Saliency(keras.optimizers.Optimizer):
    """Changes no weight, and sums up how the loss would move with parts of a model.

    `fit` does the work: on every backend, with its data and their checks. What it
    computes per batch is weight * gradient, summed over all entries of a part, in
    whichever weights they are. That is the derivative of the loss by a factor of that
    part; a measure of it is added up over the batches.

    Args:
        sets: Dict from names to sets of parts: what sums weight * gradient over the
            entries of each part, a dict from paths inside the model to functions. All
            functions of a set return the same shape.
        measure: What is taken of the derivatives of a batch, such as `ops.square`.
    """

    def __init__(
        self, sets: Mapping[object, Mapping[str, Callable]], measure: Callable
    ):
        super().__init__(learning_rate=0.0, name="saliency")
        self.measure = measure
        self._names = tuple(sets)
        self._weights = tuple(tuple(each.items()) for each in sets.values())

    def build(self, variables):
        """Makes what the sets are summed up in."""
        if self.built:
            return
        super().build(variables)
        found = {variable.path.split("/", 1)[1]: variable for variable in variables}
        self._now, self._sums, adds = [], [], {}
        for place, weights in enumerate(self._weights):
            for path, over_parts in weights:
                index = self._get_variable_index(found[path])
                adds.setdefault(index, []).append((place, over_parts))
            shape = tuple(over_parts(ops.zeros(found[path].shape)).shape)
            self._now.append(self.add_variable(shape, name=f"now_{place}"))
            self._sums.append(self.add_variable(shape, name=f"sums_{place}"))
        # By the place of a variable, in the order of which Keras goes through them.
        self._adds = tuple(tuple(adds.get(i, ())) for i in range(max(adds) + 1))

    def update_step(self, gradient, variable, learning_rate):
        """Adds what one weight contributes to a batch; the last one ends the batch."""
        index = self._get_variable_index(variable)
        adds = self._adds[index] if index < len(self._adds) else ()
        if adds:
            moves = ops.cast(gradient, "float32") * ops.cast(variable, "float32")
        for place, over_parts in adds:
            self.assign_add(self._now[place], over_parts(moves))
        if index + 1 == len(self._adds):
            for now, sums in zip(self._now, self._sums, strict=True):
                self.assign_add(sums, self.measure(now))
                self.assign(now, ops.zeros(now.shape))

    def mean(self) -> dict[object, np.ndarray]:
        """Returns the mean over the batches for each part of each set."""
        batches = ops.convert_to_numpy(self.iterations)
        sums = (ops.convert_to_numpy(each) / batches for each in self._sums)
        return dict(zip(self._names, sums, strict=True))
