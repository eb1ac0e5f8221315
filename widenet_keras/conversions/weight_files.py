"""The door for weight files of other libraries: arrays by name, whatever the format."""

import os
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from widenet_keras.conversions.hdf5_files import read_hdf5
from widenet_keras.conversions.hub import fetched, is_on_hub
from widenet_keras.conversions.npz_files import read_npz
from widenet_keras.conversions.pytorch_files import read_torch
from widenet_keras.conversions.reading import reading, shown
from widenet_keras.conversions.safetensors_files import read_safetensors
from widenet_keras.conversions.weight_folders import (
    TASK,
    companions_in,
    files_of,
    first_weights,
    other_owner,
    shards,
)
from widenet_keras.utils.memory import MAX_MEMORY, weight_of
from widenet_keras.utils.printable import printable

_HDF5_START = b"\x89HDF\r\n\x1a\n"
_ZIP_START = b"PK\x03\x04"
# Of pickles, by their protocol.
_PICKLE_STARTS = tuple(bytes([0x80, protocol]) for protocol in range(2, 6))
_POINTER_START = b"version https://git-lfs"
_KNOWN = (
    "give a file of safetensors, PyTorch (.bin, .pth), NumPy (.npz) or Keras "
    "(.weights.h5); load_model() reads .keras files"
)


class WeightFile(NamedTuple):
    """Weights as their library wrote them.

    Attributes:
        arrays: By the names of the file; paths with "/" in HDF5. Halves are float32.
        companions: The well-known JSON files beside it, by name, such as "config.json".
        origin: What messages call it.
        attributes: Of HDF5 the attribute `name` of each group "vars" by its path.
        assumed: Short phrases: what is not known of the files themselves.
    """

    arrays: dict[str, np.ndarray]
    companions: dict[str, dict]
    origin: str
    attributes: dict[str, str]
    assumed: tuple[str, ...] = ()


def read_weights(
    source,
    *,
    revision: str | None = None,
    cache_dir: str | os.PathLike | None = None,
    local_files_only: bool = False,
    max_memory: int = MAX_MEMORY,
) -> WeightFile:
    """Returns the weights in a file, a folder, or a repository of the Hugging Face Hub.

    Nothing of a file is run. What its arrays would take is known before there is room
    for any of them.

    Args:
        source: Path of a file or folder, or "hub:owner/name[@revision]".
        revision: Branch, tag or commit of a repository.
        cache_dir: Folder of the hub's cache; None for the usual one.
        local_files_only: Whether only the hub's cache is looked at.
        max_memory: Bytes that arrays which are packed may take beyond what their files
            weigh.

    Returns:
        `WeightFile`. The arrays of "task.weights.h5" beside Keras's "model.weights.h5"
        are under "task/".

    Raises:
        ValueError: If there is nothing like that, or it is damaged or not to be read.
        ImportError: If huggingface_hub is needed and not installed.
    """
    if is_on_hub(source):
        found = fetched(source, revision, cache_dir, local_files_only)
        folder, name, assumed = found
        companions, origin = companions_in(folder), printable(source)
    else:
        if revision is not None:
            raise ValueError(
                f"{printable(source)} is no repository of the hub, and revision="
                f"{revision!r} is of one; leave it out, or give hub:owner/name."
            )
        folder, name = _place(source)
        companions, origin = companions_in(folder), printable(folder / name)
        assumed = _whose(companions, folder, name)
    arrays, attributes = _content(folder, name, max_memory)
    return WeightFile(arrays, companions, origin, attributes, assumed)


def _whose(companions, folder, name):
    """Returns a phrase where JSON files may belong to another file of the folder."""
    names = [each.name for each in folder.iterdir()] if companions else []
    other = other_owner(names, name)
    if other is None:
        return ()
    listed = " and ".join(map(printable, companions))
    return (f"{listed} beside it tells of this file, not of {shown(other)}",)


def _place(source):
    """Returns the folder and the name of the weights that a path leads to."""
    if not isinstance(source, str | os.PathLike) or not os.fspath(source):
        raise ValueError(
            f"{source!r} is no source of weights; give a path, or 'hub:owner/name'."
        )
    path = Path(source)
    if path.is_dir():
        names = [each.name for each in path.iterdir() if each.is_file()]
        return path, first_weights(names, printable(path))
    if not path.is_file():
        raise ValueError(
            f"{printable(path)} does not exist; give a file or folder, or "
            "'hub:owner/name' for a repository of the Hugging Face Hub."
        )
    return path.parent, path.name


def _content(folder, name, max_memory):
    """Returns the arrays of all files of a folder that belong together."""
    places = shards(folder, name)
    names = [TASK] if (folder / TASK).is_file() else []
    arrays, attributes = {}, {}
    for each in files_of(folder, name, names):
        path = folder / each
        found, layers = _read(path, max_memory)
        # The files share what they may take.
        taken = sum(array.nbytes for array in found.values())
        max_memory -= min(max(taken - 2 * weight_of(path), 0), max_memory)
        prefix = "task/" if each == TASK and each != name else ""
        twins = {f"{prefix}{key}" for key in found} & set(arrays)
        if twins:
            raise ValueError(
                f"{printable(path)} has {shown(min(twins))}, as another file of the "
                "same weights; fetch them again."
            )
        arrays.update({f"{prefix}{key}": value for key, value in found.items()})
        attributes.update({f"{prefix}{key}": value for key, value in layers.items()})
    if places:
        _check_index(folder / name, places, arrays)
    return arrays, attributes


def _check_index(path, places, arrays):
    """Raises `ValueError` unless the files have what their index names."""
    named = {key.strip("/") for key in places}
    ours = {key for key in arrays if not key.startswith("task/")}
    # Of Keras it names the groups.
    found = {key if key in named else key.rpartition("/")[0] or key for key in ours}
    if found != named:
        raise ValueError(
            f"{printable(path)} does not name what its files have, such as "
            f"{shown(min(found ^ named))}; fetch them again."
        )


def _read(path, max_memory):
    """Returns the arrays of one file, and names of layers, by what it begins with."""
    if not path.is_file():
        raise ValueError(f"{printable(path)} is missing; fetch it again.")
    with path.open("rb") as file:
        start = file.read(64)
    # Whatever its name promises.
    if start.startswith(_POINTER_START):
        raise ValueError(
            f"{printable(path)} is a pointer of Git LFS and not the file; run git lfs "
            "pull."
        )
    if start.startswith(_HDF5_START):
        return read_hdf5(path, max_memory)
    # Its length may look like the start of a pickle.
    if path.suffix == ".safetensors" or start[8:9] == b"{":
        return read_safetensors(path), {}
    if start.startswith(_PICKLE_STARTS):
        return read_torch(path), {}
    if start.startswith(_ZIP_START):
        with reading(path, "a zip archive"), zipfile.ZipFile(path) as archive:
            names = archive.namelist()
        if any(name.endswith("data.pkl") for name in names):
            return read_torch(path), {}
        if names and names[0].endswith(".npy"):
            return read_npz(path, max_memory), {}
    raise ValueError(f"{printable(path)} is of an unknown format; {_KNOWN}.")
