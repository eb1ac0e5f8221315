"""Archives from elsewhere: looked at before anything is unpacked."""

import collections
import math
from pathlib import PurePosixPath

import numpy as np

# More than any manifest or configuration has, and than honest bytes shrink by.
_LARGEST_TEXT = 2**24
_LARGEST_RATIO = 100
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def check_members(archive):
    """Raises `ValueError` if an archive would unpack to more than it can hold.

    Args:
        archive: `zipfile.ZipFile`.
    """
    members = archive.infolist()
    for each in members:
        text = each.filename.endswith((".json", ".txt"))
        inflated = each.file_size > _LARGEST_RATIO * max(each.compress_size, 1)
        if inflated or (text and each.file_size > _LARGEST_TEXT):
            raise ValueError(
                f"{each.filename} would unpack from {each.compress_size} to "
                f"{each.file_size} bytes"
            )
        name = PurePosixPath(each.filename.replace("\\", "/"))
        if name.is_absolute() or ".." in name.parts:
            raise ValueError(f"{each.filename} would be unpacked outside of a folder")
    counts = collections.Counter(each.filename for each in members)
    name, count = counts.most_common(1)[0] if counts else ("", 0)
    if count > 1:
        raise ValueError(f"{name} is in it {count} times")


def unpacked_size(archive):
    """Returns the bytes of all members of a `zipfile.ZipFile` together."""
    return sum(each.file_size for each in archive.infolist())


def check_arrays(archive):
    """Raises `ValueError` if an array of an .npz file is not what its header says.

    NumPy makes room for what the header says before it reads the numbers.

    Args:
        archive: `zipfile.ZipFile`.
    """
    for each in archive.infolist():
        if not each.filename.endswith(".npy"):
            continue
        with archive.open(each) as file:
            version = np.lib.format.read_magic(file)
            if version not in _HEADERS:
                raise ValueError(f"{each.filename} is of version {version}")
            shape, _, dtype = _HEADERS[version](file)
            size = math.prod(shape) * dtype.itemsize
            # Python objects are stored otherwise, and refused where they are read.
            if not dtype.hasobject and file.tell() + size != each.file_size:
                raise ValueError(
                    f"{each.filename} has {each.file_size} bytes and its header says "
                    f"{shape} of {dtype}"
                )
