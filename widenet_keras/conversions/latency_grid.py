"""Milliseconds at some sizes, and between them."""

import numbers
from typing import NamedTuple

import numpy as np


def is_number(value: object) -> bool:
    """Whether something is a real number, and not True or text that looks like one.

    Args:
        value: Anything.
    """
    return isinstance(value, numbers.Real) and not isinstance(value, bool | np.bool_)


class Grid(NamedTuple):
    """Milliseconds at some sizes.

    Attributes:
        axes: For each axis the sizes that were measured, increasing.
        milliseconds: Array with a place for each of them; a part never takes less
            than a smaller one.
    """

    axes: tuple[tuple[int, ...], ...]
    milliseconds: np.ndarray

    @classmethod
    def of(cls, axes, milliseconds) -> "Grid":
        """Returns the grid of what was measured.

        Where a smaller part took longer than a larger one, it has the time of that: it
        could be computed as the larger one with zeros.

        Args:
            axes: As the attribute.
            milliseconds: Numbers with a place for each of them.

        Raises:
            ValueError: The reason alone, if they do not fit together.
        """
        axes = tuple(map(tuple, axes))
        for axis in axes:
            whole = all(type(size) is int and size > 0 for size in axis)
            if not (axis and whole and list(axis) == sorted(set(axis))):
                raise ValueError("sizes are no increasing whole numbers")
        values = np.array(milliseconds, object)
        if values.shape != tuple(map(len, axes)):
            raise ValueError("not every size has a time")
        if not all(map(is_number, values.flat)):
            raise ValueError("times are no numbers")
        values = values.astype(float)
        if not (np.isfinite(values) & (values >= 0)).all():
            raise ValueError("times are no positive numbers")
        for axis in range(values.ndim):
            smallest = np.minimum.accumulate(np.flip(values, axis), axis)
            values = np.flip(smallest, axis)
        return cls(axes, values)

    def at(self, *sizes: int) -> float:
        """Returns the milliseconds at sizes, linear between those that were measured.

        Outside of an axis it is what stands at its end.

        Args:
            *sizes: One for each axis.
        """
        values = self.milliseconds
        for points, size in zip(self.axes, sizes, strict=True):
            parts = [np.interp(size, points, row) for row in np.eye(len(points))]
            values = np.tensordot(parts, values, 1)
        return float(values)
