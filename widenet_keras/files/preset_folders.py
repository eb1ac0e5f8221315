"""Folders with a model in the form of KerasHub's presets: written whole, read checked.

`config.json` is the model as Keras serialises it, with class names, preprocessing and
frozen parts; `model.weights.h5` has its weights, without an optimizer's state;
`metadata.json` says what wrote it, and the checksums of both.
"""

import datetime
import hashlib
import json
import os
from pathlib import Path

import keras

from widenet_keras.files.content_checks import (
    OF_CONTENT,
    check_content,
    class_of,
    reason,
    unloadable,
)
from widenet_keras.models.presets import PRESETS
from widenet_keras.utils.checks import check_path
from widenet_keras.utils.digests import sha256_of
from widenet_keras.utils.files import replaced_when_done
from widenet_keras.utils.json_files import read_json, write_json
from widenet_keras.utils.plain_errors import is_of_the_system
from widenet_keras.utils.printable import printable
from widenet_keras.version import __version__

_CONFIG, _METADATA, _WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
_FILES = {_CONFIG, _METADATA, _WEIGHTS}
# By what `metadata.json` says who wrote it.
_VERSION = "widenet_keras_version"
# Presets of KerasHub that `from_weights` reads.
_OF_KERAS_HUB = ("keras_hub>ViTBackbone", "keras_hub>DeiTBackbone")
# By what the configurations of timm and Hugging Face are known.
_OF_OTHERS = ("architecture", "model_type")
_REMEDY = "give a folder that save_to_preset() wrote"


def is_folder(preset) -> bool:
    """Whether what names a preset is the path of a folder and not a name of ours."""
    if isinstance(preset, os.PathLike):
        return True
    if not isinstance(preset, str) or preset in PRESETS:
        return False
    separators = {os.sep, os.altsep, "/"} - {None}
    return any(each in preset for each in separators) or os.path.exists(preset)


def write_preset(model, folder):
    """Writes a folder; an earlier preset there is replaced when all of it is done.

    Args:
        model: A `WideNet` or `ImageClassifier`.
        folder: The folder to make or replace.

    Raises:
        ValueError: If it is a file, or has something that would be lost.
    """
    check_path("save_to_preset", folder)
    _check_target(Path(folder))
    config = keras.saving.serialize_keras_object(model)
    for name in ("build_config", "compile_config"):
        config.pop(name, None)
    optimizer = getattr(model, "optimizer", None)
    if class_of(config, type(model)) is None:
        raise ValueError(
            f"save_to_preset: {type(model).__name__} is a class that nothing could "
            "load again; decorate it with @keras.saving.register_keras_serializable()."
        )
    with replaced_when_done(folder) as fresh:
        fresh.mkdir()
        weights = fresh / _WEIGHTS
        keras.saving.save_weights(model, weights, objects_to_skip=[optimizer])
        write_json(fresh / _CONFIG, config)
        metadata = {
            "keras_version": keras.version(),
            _VERSION: __version__,
            "parameter_count": model.count_params(),
            "date_saved": datetime.datetime.now().strftime("%Y-%m-%d@%H:%M:%S"),
            "sha256": _sums(config, weights),
        }
        write_json(fresh / _METADATA, metadata)


def read_preset(folder, model_class: type, changed: dict, max_memory: int):
    """Returns the model in a folder, not compiled.

    Args:
        folder: The folder.
        model_class: Class that the model must be of.
        changed: Dict of arguments of the constructor that win over the folder's.
        max_memory: Bytes that it may take beyond what the folder weighs.

    Raises:
        ValueError: If there is none, it is damaged, of another class or library, names
            what may not be loaded, or would take too much memory.
    """
    folder, given = Path(folder), changed
    changed = {**given}
    if "dtype" in changed:
        policy = keras.dtype_policies.get(changed["dtype"])
        changed["dtype"] = keras.saving.serialize_keras_object(policy)
    config = _config_in(folder)
    found = class_of(config, model_class)
    if found is None:
        raise _foreign(folder, config, model_class)
    weights = folder / _WEIGHTS
    if not weights.is_file():
        raise ValueError(f"{folder} has no {_WEIGHTS}; {_REMEDY}.")
    _check_sums(folder, config)
    with weights.open("rb") as file:
        check_content(folder, config, file, model_class, max_memory)
    try:
        model = found.from_config({**config["config"], **changed})
        model.load_weights(weights)
    except OF_CONTENT as error:
        if is_of_the_system(error):
            raise
        if not given:
            raise unloadable(folder, error) from error
        asked = ", ".join(f"{name}={value!r}" for name, value in given.items())
        raise ValueError(
            f"{folder} cannot be loaded with {asked} ({reason(error)})."
        ) from error
    return model


def _config_in(folder):
    """Returns the configuration in a folder, a dict."""
    if not folder.exists():
        raise ValueError(
            f"{folder} does not exist; {_REMEDY}, or a name of "
            "widenet_keras.presets(). from_weights() reads weights of other libraries."
        )
    if not folder.is_dir():
        raise ValueError(
            f"{folder} is a file and from_preset() reads folders; load_model() reads "
            ".keras files, from_weights() the weights of other libraries."
        )
    if not (folder / _CONFIG).is_file():
        raise ValueError(
            f"{folder} has no {_CONFIG}, so it is no preset; {_REMEDY}. from_weights() "
            "reads weights of other libraries."
        )
    return read_json(folder / _CONFIG, _REMEDY)


def _foreign(folder, config, model_class):
    """Returns the error about a folder whose model is of another class."""
    name = str(config.get("registered_name"))
    asked = model_class.__name__
    if name in _OF_KERAS_HUB or any(each in config for each in _OF_OTHERS):
        return ValueError(
            f"{folder} has weights of another library; widenet_keras.from_weights() "
            f"reads them, {asked}.from_preset() what save_to_preset() wrote."
        )
    return ValueError(
        f"{folder} is of the class {reason(name)} and {asked}.from_preset() reads "
        f"registered classes of {asked} only; use another class, or another folder."
    )


def _check_sums(folder, config):
    """Raises `ValueError` if a file is not as it was written, where that is known."""
    path = folder / _METADATA
    wanted = read_json(path, _REMEDY).get("sha256") if path.is_file() else None
    if not isinstance(wanted, dict):
        return
    for name, found in _sums(config, folder / _WEIGHTS).items():
        if wanted.get(name, found) != found:
            raise ValueError(
                f"{folder} is damaged ({name} has changed since it was written); copy "
                f"it again, or take its sums out of {_METADATA} if the change is yours."
            )


def _sums(config, weights):
    """Returns the checksums of a preset by file; of the configuration as it is read."""
    text = json.dumps(config, sort_keys=True).encode()
    return {
        _CONFIG: hashlib.sha256(text).hexdigest(),
        _WEIGHTS: sha256_of(weights),
    }


def _check_target(folder):
    """Raises `ValueError` unless a preset can stand there and nothing is lost."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ValueError(
            f"save_to_preset: {folder} is a file; give the path of a folder."
        )
    kept = _FILES if _is_ours(folder) else ()
    others = sorted(
        each.name
        for each in folder.iterdir()
        if not (each.name in kept and each.is_file())
    )
    if others:
        raise ValueError(
            f"save_to_preset: {folder} is a folder with {printable(others[0])}, which "
            "would be lost; give the path of an earlier preset, or of a folder that "
            "does not exist."
        )


def _is_ours(folder):
    """Returns whether `write_preset` wrote a folder."""
    try:
        return _VERSION in read_json(folder / _METADATA, _REMEDY)
    except (ValueError, OSError):
        return False
