"""What weights are worth: an optimizer that only looks at their gradients."""

from collections.abc import Callable

import keras
from keras import ops


class Saliency(keras.optimizers.Optimizer):
    """Changes no weight, and sums up how the loss would move with parts of one.

    `fit` does the work: on every backend, with its data and their checks. What it
    computes per batch is weight * gradient, summed over the entries of a part, which
    is the derivative of the loss by a factor of that part; of that the absolute value
    is taken and added up.

    Args:
        path: Path inside its model of the weight to look at.
        over_parts: Function of weight * gradient that sums it over the entries of each
            part.
    """

    def __init__(self, path: str, over_parts: Callable):
        super().__init__(learning_rate=0.0, name="saliency")
        self.path = path
        self.over_parts = over_parts

    def build(self, variables):
        """Makes the sums of the parts."""
        if self.built:
            return
        super().build(variables)
        [watched] = [v for v in variables if v.path.split("/", 1)[1] == self.path]
        self._watched = self._get_variable_index(watched)
        shape = self.over_parts(ops.zeros(watched.shape)).shape
        self.sums = self.add_variable(tuple(shape), name="sums")

    def update_step(self, gradient, variable, learning_rate):
        """Adds one batch to the sums."""
        if self._get_variable_index(variable) == self._watched:
            moves = ops.cast(gradient, "float32") * ops.cast(variable, "float32")
            self.assign_add(self.sums, ops.abs(self.over_parts(moves)))

    def mean(self):
        """Returns the mean over the batches for each of the parts, NumPy."""
        batches = ops.convert_to_numpy(self.iterations)
        return ops.convert_to_numpy(self.sums) / batches
