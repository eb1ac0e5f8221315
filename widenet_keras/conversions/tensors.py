"""The tensors of a file, each of which must be used: what is left over is an error."""

import re
from typing import NamedTuple

import numpy as np

from widenet_keras.utils.printable import printable


class Pair(NamedTuple):
    """A kernel (inputs, outputs) and its bias, or the gamma and beta of a norm."""

    first: np.ndarray
    second: np.ndarray


def shape_in_words(shape: tuple) -> str:
    """Returns a shape as messages show it, "any" where an axis is free."""
    return "(" + ", ".join("any" if s is None else str(s) for s in shape) + ")"


class Tensors:
    """Arrays by name, under a prefix, of which it is known which were used.

    Args:
        arrays: Dict of name to array.
        origin: What messages call the file.
        prefix: What stands before the names that are asked for.
        used: Set of the names that were used; shared by all views of one file.
    """

    def __init__(
        self,
        arrays: dict[str, np.ndarray],
        origin: str,
        prefix: str = "",
        used: set[str] | None = None,
    ):
        self.arrays = arrays
        self.origin = printable(origin)
        self.prefix = prefix
        self.used = set() if used is None else used

    def under(self, prefix: str) -> "Tensors":
        """Returns the view on the names that begin with a longer prefix."""
        return Tensors(self.arrays, self.origin, self.prefix + prefix, self.used)

    def outside(self) -> "Tensors":
        """Returns the view on all names of the file."""
        return Tensors(self.arrays, self.origin, "", self.used)

    def names(self) -> list[str]:
        """Returns the names under the prefix, without it."""
        start = len(self.prefix)
        return [name[start:] for name in self.arrays if name.startswith(self.prefix)]

    def has(self, name: str) -> bool:
        """Returns whether there is such a tensor."""
        return self.prefix + name in self.arrays

    def get(self, name: str, *shape: int | None) -> np.ndarray | None:
        """Returns a tensor, or None where there is none.

        Args:
            name: Its name after the prefix.
            *shape: Its shape; None is an axis of any length. More axes of length one
                may lead, so that (1, 1, D) is taken as (D).

        Raises:
            ValueError: If it has another shape, or does not hold finite floats.
        """
        if not self.has(name):
            return None
        full = self.prefix + name
        array = np.asarray(self.arrays[full])
        if array.dtype.kind != "f":
            raise self.error(full, f"holds {array.dtype}; weights are floats")
        if not array.size:
            raise self.error(full, "is empty")
        if shape:
            array = self._in_shape(full, array, shape)
        # A copy first: what is mapped from a file may change.
        array = np.array(array, np.float64 if array.dtype == np.float64 else np.float32)
        if not np.isfinite(array).all():
            raise self.error(full, "holds values that are not finite")
        self.used.add(full)
        return array

    def take(self, name: str, *shape: int | None) -> np.ndarray:
        """Returns a tensor that must be there; otherwise like `get`.

        Raises:
            ValueError: If it is not there, or has another shape.
        """
        array = self.get(name, *shape)
        if array is None:
            raise self.error(
                self.prefix + name, "is not there; is the file complete, and unchanged"
            )
        return array

    def linear(self, name: str, inputs: int | None, outputs: int | None) -> Pair:
        """Returns a torch Linear as kernel (inputs, outputs) and bias (outputs).

        A bias that the source does not have is zeros.
        """
        # Laid out at once as it will be, so that it is in memory once.
        kernel = np.ascontiguousarray(self.take(f"{name}.weight", outputs, inputs).T)
        bias = self.get(f"{name}.bias", kernel.shape[1])
        return Pair(kernel, zeros(kernel) if bias is None else bias)

    def norm(self, name: str, width: int | None) -> Pair:
        """Returns gamma and beta of a torch LayerNorm."""
        gamma = self.take(f"{name}.weight", width)
        return Pair(gamma, self.take(f"{name}.bias", len(gamma)))

    def patches(self, name: str, flat: bool = False) -> Pair:
        """Returns a torch patch convolution as kernel (p, p, channels, D) and bias.

        Args:
            name: Its name.
            flat: Whether it may be a product over the pixels of three channels, as in
                old files of timm; others have the pixels in another order.
        """
        full = f"{self.prefix}{name}.weight"
        kernel = self.take(f"{name}.weight")
        if flat and kernel.ndim == 2:
            side = round((kernel.shape[1] / 3) ** 0.5)
            if 3 * side**2 == kernel.shape[1]:
                kernel = kernel.reshape(len(kernel), 3, side, side)
        if kernel.ndim != 4 or kernel.shape[2] != kernel.shape[3]:
            raise self.error(
                full,
                f"has shape {shape_in_words(kernel.shape)}; patches must be square: "
                "(width, channels, p, p)",
            )
        kernel = kernel.transpose(2, 3, 1, 0)
        bias = self.get(f"{name}.bias", kernel.shape[-1])
        return Pair(kernel, zeros(kernel) if bias is None else bias)

    def blocks(self, pattern: str) -> list[str]:
        """Returns the prefixes of all blocks, in the order of their numbers.

        Args:
            pattern: Regular expression of a prefix whose last group is the number; one
                that has none is block 0.

        Raises:
            ValueError: If there are none, if a number is missing, or there twice.
        """
        found = {}
        for match in filter(None, map(re.compile(pattern).match, self.names())):
            number = int(match[match.lastindex or 0] or 0) if match.lastindex else 0
            if found.setdefault(number, match[0]) != match[0]:
                raise self.error(
                    self.prefix + match[0],
                    f"and {found[number]!r} are both block "
                    f"{number}; give a file of one model",
                )
        # Not by a range up to the largest number, which may be any.
        missing = next((n for n in range(len(found) or 1) if n not in found), None)
        if missing is not None:
            raise ValueError(
                f"{self.origin}: there is no block {missing} of "
                f"{max(found, default=0) + 1}; is the file complete?"
            )
        return [found[number] for number in sorted(found)]

    def check_all_used(self, ignored: str) -> None:
        """Raises `ValueError` if a tensor was neither used nor is to be ignored.

        Args:
            ignored: Regular expression of the beginnings of names that say nothing of
                the vision model.
        """
        ignore = re.compile(ignored)
        left = [n for n in self.arrays if n not in self.used and not ignore.match(n)]
        if left:
            more = f" (and {len(left) - 1} more)" if len(left) > 1 else ""
            raise ValueError(
                f"{self.origin}: tensor {name_in_words(left[0])}{more} has no place in "
                "a WideNet, so that the answers would be others; give a file of a "
                "plain vision transformer."
            )

    def error(self, name: str, what: str) -> ValueError:
        """Returns the error that says what is wrong with a tensor, by its full name."""
        return ValueError(f"{self.origin}: tensor {name_in_words(name)} {what}.")

    def _in_shape(self, name, array, shape):
        extra = array.ndim - len(shape)
        cut = array
        if extra > 0 and array.shape[:extra] == (1,) * extra:
            cut = array.reshape(array.shape[extra:])
        if cut.ndim != len(shape) or any(
            a not in (None, b) for a, b in zip(shape, cut.shape, strict=True)
        ):
            raise self.error(
                name,
                f"has shape {shape_in_words(array.shape)}, not {shape_in_words(shape)}",
            )
        return cut


def zeros(kernel: np.ndarray) -> np.ndarray:
    """Returns the bias, (outputs), of a product that has none."""
    return np.zeros(kernel.shape[-1], kernel.dtype)


def name_in_words(name: str) -> str:
    """Returns the name of a tensor as messages show it."""
    name = printable(name)
    return repr(name if len(name) <= 120 else name[:117] + "...")
