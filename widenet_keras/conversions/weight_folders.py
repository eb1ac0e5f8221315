"""Folders of weights: which file has them, what belongs to it, what lies beside it."""

import fnmatch
import os
from pathlib import Path

from widenet_keras.conversions.reading import reading, shown
from widenet_keras.utils.json_files import dict_in

# What the libraries keep beside their weights.
COMPANIONS = (
    "config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "open_clip_config.json",
    "task.json",
    "image_converter.json",
)
INDEXES = (
    "model.safetensors.index.json",
    "model.weights.json",
    "pytorch_model.bin.index.json",
)
_BACKBONE, TASK = ("model.weights.h5", "model.weights.json"), "task.weights.h5"
# The first of these that is there has the weights.
_ORDER = (
    "model.safetensors",
    INDEXES[0],
    "open_clip_model.safetensors",
    *_BACKBONE,
    "pytorch_model.bin",
    INDEXES[2],
    "open_clip_pytorch_model.bin",
    "*.npz",
    "*.safetensors",
    "*.weights.h5",
    "*.pth",
    "*.pt",
)


def first_weights(names, where: str) -> str:
    """Returns the file that has the weights.

    Args:
        names: Names of the files of a folder.
        where: What to call the folder.

    Raises:
        ValueError: If there is none, or several of which none comes first.
    """
    for pattern in _ORDER:
        found = sorted(each for each in names if fnmatch.fnmatchcase(each, pattern))
        if pattern.startswith("*."):
            found = [each for each in found if each != TASK and "/" not in each]
        if len(found) > 1:
            listed = ", ".join(map(shown, found[:5]))
            raise ValueError(
                f"{where} has several files of weights ({listed}); give the path of "
                "one."
            )
        if found:
            return found[0]
    raise ValueError(f"{where} has no file of weights; known are {', '.join(_ORDER)}.")


def other_owner(names, name: str) -> str | None:
    """Returns another file of weights that a folder's JSON files may belong to.

    They belong to a file of one of the libraries' own names, and to the only one.

    Args:
        names: Names of the files of a folder.
        name: Of the file that is read.
    """
    own = name.split(".")[0]
    if name in (*_ORDER, TASK):
        return None
    for pattern in _ORDER:
        for each in sorted(fnmatch.filter(names, pattern)):
            if each.split(".")[0] not in (own, TASK.split(".")[0]):
                return each
    return None


def files_of(folder, name: str, names) -> list[str]:
    """Returns the files that the weights consist of.

    Args:
        folder: Where the index is, if `name` is one.
        name: Of the file that has the weights.
        names: Names of the files that there are.

    Raises:
        ValueError: If an index is damaged or names files elsewhere.
    """
    files = sorted({f for each in shards(folder, name).values() for f in each})
    files = files or [name]
    return [*files, TASK] if name in _BACKBONE and TASK in names else files


def shards(folder, name: str) -> dict[str, list[str]]:
    """Returns the files of each tensor (or group of Keras) that an index names.

    Args:
        folder: Where it is.
        name: Its name; of what is no index the dict is empty.
    """
    if not name.endswith(".json"):
        return {}
    path = Path(folder) / name
    with reading(path, "an index of weight files"):
        places = dict_in(path)["weight_map"].items()
        found = {key: [f] if isinstance(f, str) else list(f) for key, f in places}
        for file in {file for files in found.values() for file in files}:
            if (
                not isinstance(file, str)
                or file != os.path.basename(file)
                or ("\\" in file or file.endswith(".json"))
            ):
                raise ValueError(f"{shown(file)} is no name of a file beside it")
        if not any(found.values()):
            raise ValueError("it names no files")
    return found


def companions_in(folder) -> dict[str, dict]:
    """Returns the well-known JSON files of a folder by their names.

    Args:
        folder: The folder.

    Raises:
        ValueError: If one is no JSON object.
    """
    found = {}
    for name in COMPANIONS:
        path = Path(folder) / name
        if path.is_file():
            with reading(path, "a JSON object"):
                found[name] = dict_in(path)
    return found
