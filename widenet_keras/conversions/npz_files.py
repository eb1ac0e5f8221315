"""Files of NumPy's .npz format."""

import collections
import zipfile

import numpy as np

from widenet_keras.conversions.reading import as_numbers, reading, shown
from widenet_keras.files.archives import check_arrays, unpacked_size
from widenet_keras.utils.memory import check_memory

_KIND = "a file of NumPy arrays"
_ENDING = ".npy"
# What NumPy writes; others may take memory that no header tells of.
_PACKINGS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def read_npz(path, max_memory: int) -> dict[str, np.ndarray]:
    """Returns the arrays of a file by their names; no Python object is read.

    Args:
        path: The file.
        max_memory: Bytes that they may take beyond what the file weighs.

    Raises:
        ValueError: If it is damaged, holds something else than numbers, or would
            take too much memory.
    """
    with reading(path, _KIND), zipfile.ZipFile(path) as archive:
        _check_members(archive)
        needed = unpacked_size(archive)
    check_memory(path, "its arrays", needed, max_memory)
    with reading(path, _KIND), zipfile.ZipFile(path) as archive:
        check_arrays(archive)
        return dict(_array(archive, each) for each in archive.infolist())


def _check_members(archive):
    names = archive.namelist()
    for each in archive.infolist():
        if not each.filename.endswith(_ENDING):
            raise ValueError(f"{shown(each.filename)} is no array")
        if each.compress_type not in _PACKINGS:
            raise ValueError(f"{shown(each.filename)} is packed in an unknown way")
    if len(set(names)) < len(names):
        [(twin, _)] = collections.Counter(names).most_common(1)
        raise ValueError(f"{shown(twin)} is in it twice")


def _array(archive, member):
    name = member.filename.removesuffix(_ENDING)
    with archive.open(member) as file:
        array = np.lib.format.read_array(file, allow_pickle=False)
    return name, as_numbers(array, name)
