"""Files of the safetensors format: a JSON header, then the numbers.

Eight bytes have the length of the header; it names each tensor with its dtype, shape
and place. Nothing in it can run.
"""

import collections
import json
import math

import numpy as np

from widenet_keras.conversions.reading import as_numbers, mapped, reading, shown

_LENGTH = 8
# The format's own limit.
_LONGEST_HEADER = 100_000_000
_MOST_AXES = 32
_DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "V2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    "U64": "<u8",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "u1",
    "BOOL": "?",
}


def read_safetensors(path) -> dict[str, np.ndarray]:
    """Returns the tensors of a file by their names.

    Args:
        path: The file.

    Raises:
        ValueError: If the header does not describe what follows it.
    """
    with reading(path, "a safetensors file"):
        content = mapped(path)
        start, tensors = _header(content)
        _check_places(tensors, len(content) - start)
        return {
            name: _array(content, start, name, *entry)
            for name, entry in tensors.items()
        }


def _header(content):
    """Returns where the numbers begin, and (dtype, shape, begin, end) by name."""
    length = int.from_bytes(content[:_LENGTH], "little")
    if length > min(_LONGEST_HEADER, len(content) - _LENGTH):
        raise ValueError(f"a header of {length} bytes in a file of {len(content)}")
    start = _LENGTH + length
    header = json.loads(content[_LENGTH:start], object_pairs_hook=_without_twins)
    if not isinstance(header, dict):
        raise ValueError("its header is no dict")
    header.pop("__metadata__", None)
    return start, {name: _entry(name, entry) for name, entry in header.items()}


def _without_twins(pairs):
    entries = dict(pairs)
    if len(entries) < len(pairs):
        counts = collections.Counter(name for name, _ in pairs)
        [(twin, _)] = counts.most_common(1)
        raise ValueError(f"{shown(twin)} is in it twice")
    return entries


def _entry(name, entry):
    """Returns (dtype, shape, begin, end) of a tensor as the header has it."""
    if not isinstance(entry, dict) or {"dtype", "shape", "data_offsets"} - set(entry):
        raise ValueError(f"{shown(name)} has no dtype, shape and data_offsets")
    dtype, shape, place = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        known = ", ".join(_DTYPES)
        raise ValueError(f"{shown(name)} is of {shown(dtype)}; read are {known}")
    if not (_are_counts(shape) and len(shape) <= _MOST_AXES):
        raise ValueError(f"the shape of {shown(name)} is {shown(shape)}")
    if not (_are_counts(place) and len(place) == 2):
        raise ValueError(f"the data_offsets of {shown(name)} are {shown(place)}")
    dtype = np.dtype(_DTYPES[dtype])
    size = math.prod(shape) * dtype.itemsize
    if place[1] - place[0] != size:
        raise ValueError(
            f"{shown(name)} has {place[1] - place[0]} bytes and its shape "
            f"{shown(shape)} of {entry['dtype']} takes {shown(size)}"
        )
    return dtype, shape, *place


def _are_counts(values):
    return isinstance(values, list) and all(
        type(value) is int and value >= 0 for value in values
    )


def _check_places(tensors, size):
    """Raises `ValueError` unless the tensors fill the file, one behind the other."""
    end = 0
    for name, (_, _, begin, stop) in sorted(
        tensors.items(), key=lambda item: item[1][2:]
    ):
        if begin != end or stop > size:
            raise ValueError(
                f"{shown(name)} is at {begin} to {stop} of {size} bytes, where the one "
                f"before it ends at {end}"
            )
        end = stop
    if end != size:
        raise ValueError(f"its tensors end at {end} of {size} bytes")


def _array(content, start, name, dtype, shape, begin, end):
    if begin == end:
        return as_numbers(np.zeros(shape, dtype), name)
    count = (end - begin) // dtype.itemsize
    flat = np.frombuffer(content, dtype, count, start + begin)
    return as_numbers(flat.reshape(shape), name)


def write_safetensors(arrays: dict[str, np.ndarray], path) -> None:
    """Writes float32 arrays as a safetensors file.

    Args:
        arrays: By name.
        path: Where to write.
    """
    header, end = {"__metadata__": {"format": "pt"}}, 0
    for name, array in arrays.items():
        start, end = end, end + array.nbytes
        header[name] = {
            "dtype": "F32",
            "shape": list(array.shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(header).encode()
    # The data begin at a multiple of eight bytes.
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for array in arrays.values():
            file.write(np.ascontiguousarray(array, "<f4").tobytes())
