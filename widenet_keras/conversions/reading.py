"""What the readers of all formats of weight files share."""

import contextlib
import mmap

import numpy as np

from widenet_keras.utils.plain_errors import first_line, is_of_the_system
from widenet_keras.utils.printable import printable

# NumPy has no bfloat16: it stands as two bytes without a meaning.
BFLOAT16 = np.dtype("V2")
# Names from a file are quoted up to here.
_LONGEST_NAME = 120


def shown(name: object) -> str:
    """Returns a name from a file as a message quotes it.

    Args:
        name: Anything; its `str` is taken.
    """
    name = printable(str(name)[: _LONGEST_NAME + 1])
    return name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}..."


@contextlib.contextmanager
def reading(path, kind: str, remedy: str = "fetch it again"):
    """Context in which whatever fails is one line about a file.

    Args:
        path: The file.
        kind: What it should be, such as "a safetensors file".
        remedy: What to do.

    Raises:
        ValueError: With the line.
        OSError: If the file cannot be read.
    """
    try:
        yield
    # Parsers of damaged bytes raise almost anything.
    except Exception as error:
        if is_of_the_system(error):
            raise
        reason = printable(first_line(error))
        raise ValueError(
            f"{printable(path)} is damaged or not {kind} ({reason}); {remedy}."
        ) from None


def mapped(path) -> mmap.mmap:
    """Returns the bytes of a file: read where they are used, and never written back.

    Args:
        path: The file, which is not empty.
    """
    with open(path, "rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)


def as_numbers(array: np.ndarray, name: str) -> np.ndarray:
    """Returns an array as NumPy computes with it: halves as float32, else as it is.

    Args:
        array: Numbers, of any order of bytes; `BFLOAT16` is known.
        name: What the file calls it.

    Raises:
        ValueError: If it holds no real numbers.
    """
    dtype = array.dtype
    if dtype == BFLOAT16:
        wide = np.ascontiguousarray(array).view("<u2").astype(np.uint32) << 16
        return wide.view(np.float32).reshape(array.shape)
    # Of either order of bytes.
    if dtype.kind == "f" and dtype.itemsize == 2:
        return array.astype(np.float32)
    if dtype.kind not in "biuf" or dtype.itemsize > 8:
        raise ValueError(f"{shown(name)} is of {dtype} and not of real numbers")
    # Frameworks take aligned arrays in the order of this machine.
    return np.require(array, dtype.newbyteorder("="), ["C", "A", "W"])
