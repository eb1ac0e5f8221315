"""The door for trained weights of other libraries: a file, a folder, a hub's name."""

import json
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from widenet_keras.conversions.hdf5_files import read_hdf5
from widenet_keras.conversions.hub import hub_folder, hub_name
from widenet_keras.conversions.npz_files import read_npz
from widenet_keras.conversions.reading import reading, shown
from widenet_keras.conversions.safetensors_files import read_safetensors
from widenet_keras.conversions.torch_files import read_torch
from widenet_keras.utils.memory import MAX_MEMORY
from widenet_keras.utils.printable import printable

# What libraries write beside their weights.
COMPANIONS = (
    "config.json",
    "preprocessor_config.json",
    "open_clip_config.json",
    "task.json",
    "image_converter.json",
    "preprocessor.json",
    "metadata.json",
)
# Of a folder the first of these that is there.
WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "open_clip_model.safetensors",
    "model.weights.h5",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "open_clip_pytorch_model.bin",
)
SUFFIXES = (".safetensors", ".bin", ".pth", ".pt", ".npz", ".h5")
_TASK = "task.weights.h5"
_LONGEST_JSON = 2**26


class WeightFile(NamedTuple):
    """What was read of a weight file and of what lies beside it.

    Attributes:
        arrays: Arrays by the names of the file; halves are float32. Those of KerasHub's
            task file are below "task/".
        companions: Contents of JSON files beside it, by their names.
        origin: What messages call it.
        attributes: Names of layers of an HDF5 file, by the paths of their weights.
    """

    arrays: dict[str, np.ndarray]
    companions: dict[str, dict]
    origin: str
    attributes: dict[str, str]


def read_weights(
    source: str | os.PathLike,
    *,
    revision: str | None = None,
    cache_dir: str | os.PathLike | None = None,
    local_files_only: bool = False,
    max_memory: int = MAX_MEMORY,
) -> WeightFile:
    """Reads trained weights without running anything that a file brings along.

    Args:
        source: A file (.safetensors, .bin, .pth, .npz, .weights.h5, or the index of
            several), a folder with one, or "hub:owner/name".
        revision: Branch, tag or commit on the hub.
        cache_dir: Folder of the hub's files; None for the usual one.
        local_files_only: Whether only what is there already may be used.
        max_memory: Bytes that packed arrays may take beyond what a file weighs.

    Raises:
        ValueError: If it is none of these, damaged, or asks for more than tensors.
        FileNotFoundError: If there is nothing at the path.
        ImportError: If a hub is named and `huggingface_hub` is not installed.
    """
    name = hub_name(source)
    if name:
        path = hub_folder(name, WEIGHTS, revision, cache_dir, local_files_only)
    else:
        path = Path(source).expanduser()
    if not path.exists():
        raise FileNotFoundError(
            f"{printable(source)} does not exist; give a file of weights, a folder "
            "with one, or hub:owner/name."
        )
    file = _file_in(path) if path.is_dir() else path
    arrays, attributes = _read(file, max_memory)
    if file.name.startswith("model.weights") and (file.parent / _TASK).exists():
        more, names = _read(file.parent / _TASK, max_memory)
        arrays |= {f"task/{key}": array for key, array in more.items()}
        attributes |= {f"task/{key}": each for key, each in names.items()}
    origin = f"{name} ({file.name})" if name else str(file)
    return WeightFile(arrays, _companions(file.parent), printable(origin), attributes)


def _file_in(folder):
    """Returns the weight file of a folder."""
    for name in WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    found = sorted(
        each
        for each in folder.iterdir()
        if each.suffix in SUFFIXES and each.is_file() and each.name != _TASK
    )
    if len(found) == 1:
        return found[0]
    raise ValueError(
        f"{printable(folder)} has {len(found) or 'no'} files of weights "
        f"({', '.join(SUFFIXES)}); give one file."
    )


def _read(file, max_memory):
    """Returns the arrays of a file, and its names of layers."""
    if file.name.endswith(".index.json"):
        return _sharded(file, max_memory), {}
    suffix = file.suffix.lower()
    if suffix == ".h5":
        return read_hdf5(file, max_memory)
    if suffix == ".npz":
        return read_npz(file, max_memory), {}
    if suffix == ".safetensors":
        return read_safetensors(file), {}
    if suffix in (".bin", ".pth", ".pt"):
        return read_torch(file), {}
    raise ValueError(
        f"{printable(file)} is no file of weights by its name; they end in "
        f"{', '.join(SUFFIXES)}."
    )


def _sharded(index, max_memory):
    """Returns the arrays of all files that an index names."""
    places = _json(index).get("weight_map")
    plain = isinstance(places, dict) and all(
        isinstance(name, str) and name == Path(name).name and name not in ("", "..")
        for name in places.values()
    )
    if not plain or not places:
        raise ValueError(
            f"{printable(index)} has no weight_map from tensors to files beside it; "
            "fetch it again."
        )
    arrays = {}
    for name in sorted(set(places.values())):
        part = index.with_name(name)
        if not part.is_file() or name.endswith(".index.json"):
            raise ValueError(
                f"{printable(index)} names {shown(name)}, which is not there; fetch it "
                "as well."
            )
        own, _ = _read(part, max_memory)
        for key in own.keys() & arrays.keys():
            raise ValueError(f"{printable(part)} has {shown(key)} once more.")
        arrays |= own
    if missing := sorted(places.keys() - arrays.keys()):
        raise ValueError(
            f"{printable(index)} names {shown(missing[0])}, which no file has."
        )
    return arrays


def _companions(folder):
    """Returns the known JSON files of a folder that hold an object."""
    return {
        name: _json(folder / name) for name in COMPANIONS if (folder / name).is_file()
    }


def _json(path):
    with reading(path, "a JSON object"):
        if path.stat().st_size > _LONGEST_JSON:
            raise ValueError(f"it has {path.stat().st_size} bytes")
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("it holds something else")
        return content
