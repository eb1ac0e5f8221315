"""Types that many signatures name."""

from collections.abc import Callable
from typing import Any, TypeAlias

# A tensor of the backend, a NumPy array, or a `keras.KerasTensor`: nothing says which
# for all backends, so that a checker takes whatever is given.
Tensor: TypeAlias = Any
# Sizes; None where one is not known, as Keras has it.
Shape: TypeAlias = tuple[Any, ...]
# From a Keras variable to its tensor.
Read: TypeAlias = Callable[[Any], Tensor]
