"""HDF5 files of weights, as Keras and KerasHub write them."""

import h5py
import numpy as np

from widenet_keras.conversions.reading import as_numbers, reading, shown
from widenet_keras.files.hdf5 import check_hdf5
from widenet_keras.utils.memory import check_memory

_KIND = "an HDF5 file of weights"
# The group of a layer's weights, whose attribute is the layer's name.
_WEIGHTS, _NAME = "vars", "name"


def read_hdf5(path, max_memory: int) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Returns the arrays of a file by their paths, and the names of its layers.

    Args:
        path: The file.
        max_memory: Bytes that the arrays may take beyond what the file weighs.

    Returns:
        Tuple of the arrays, such as "layers/dense/vars/0", and the attribute `name` of
        each group "vars" that has one, such as "layers/dense/vars".

    Raises:
        ValueError: If it is damaged, points into other files, holds something else than
            numbers, or would take too much memory.
    """
    with open(path, "rb") as file:
        with reading(path, _KIND):
            needed = check_hdf5(file)
        check_memory(path, "its arrays", needed, max_memory)
        with reading(path, _KIND), h5py.File(file, "r") as root:
            return _content(root)


def _content(root):
    arrays, names = {}, {}

    def visit(path, entry):
        if isinstance(entry, h5py.Dataset):
            if entry.shape is None:
                raise ValueError(f"{shown(path)} is no array")
            arrays[path] = as_numbers(entry[()], path)
        elif path.split("/")[-1] == _WEIGHTS and _NAME in entry.attrs:
            names[path] = str(entry.attrs[_NAME])

    # Visits each object once, and follows no link that is not a hard one.
    root.visititems(visit)
    return arrays, names
