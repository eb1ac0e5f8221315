"""Loading saved models, with one clear line where a file is none.

Keras opens a file in safe mode, after it has been looked at.
"""

import contextlib
import io
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import keras

from widenet_keras.files.archives import check_members, unpacked_size
from widenet_keras.files.content_checks import (
    OF_CONTENT,
    check_content,
    class_of,
    reason,
    unloadable,
)
from widenet_keras.models.widenet import WideNet
from widenet_keras.utils.memory import MAX_MEMORY, check_memory
from widenet_keras.utils.plain_errors import is_of_the_system

_CONFIG, _WEIGHTS = "config.json", "model.weights.h5"


def load_model(
    path: str | os.PathLike, *, max_memory: int = MAX_MEMORY, **kwargs: Any
) -> keras.Model:
    """Returns the model saved at `path`, on whatever backend runs now.

    The checksums of the archive are compared first, then what it would take in memory:
    its arrays, and the classifiers of this package in it.

    Args:
        path: A `.keras` file, written on any backend.
        max_memory: Bytes that it may take beyond what the file weighs.
        **kwargs: As for `keras.saving.load_model`.

    Raises:
        ValueError: If the file does not exist, is damaged or not a Keras model, names
            classes that may not be loaded, or would take too much memory.
        OSError: If it cannot be read.
    """
    path = Path(path)
    with _opened(path, max_memory) as archive:
        config = _config_of(archive, path)
        _check(archive, path, config, max_memory, kwargs)
    return _loaded(path, kwargs)


def load_classifier(path, *, max_memory: int = MAX_MEMORY):
    """Returns the WideNet, ViT or ViT-MoE saved at `path`, not compiled.

    Args:
        path: A `.keras` file, written on any backend.
        max_memory: As for `load_model`.

    Raises:
        ValueError: If the file does not exist, is damaged, holds another kind of
            model, or would take too much memory.
        OSError: If it cannot be read.
    """
    path, kwargs = Path(path), {"compile": False}
    with _opened(path, max_memory) as archive:
        config = _config_of(archive, path)
        if not class_of(config, WideNet):
            raise ValueError(
                f"{path} is a {reason(config.get('class_name'))} and not a classifier "
                "of widenet_keras; give a file that ImageClassifier.save() wrote."
            )
        _check(archive, path, config, max_memory, kwargs)
    return _loaded(path, kwargs)


@contextlib.contextmanager
def _opened(path, max_memory):
    """Yields the archive of a `.keras` file, which is undamaged and not too large."""
    if path.is_dir():
        raise ValueError(
            f"{path} is a folder and load_model() reads .keras files; load a preset "
            "with ImageClassifier.from_preset(), a SavedModel with "
            "tf.saved_model.load()."
        )
    if not path.exists():
        raise ValueError(f"{path} does not exist; give the path of a .keras file.")
    if not _is_archive(path):
        raise ValueError(
            f"{path} is not a Keras model; give a .keras file as model.save() writes."
        )
    with contextlib.ExitStack() as stack:
        try:
            archive = stack.enter_context(zipfile.ZipFile(path))
            check_members(archive)
        # What zipfile raises on damaged bytes is not all BadZipFile.
        except Exception as error:
            if is_of_the_system(error):
                raise
            raise _damaged(path, error) from error
        check_memory(path, "what is packed in it", unpacked_size(archive), max_memory)
        try:
            broken = archive.testzip()
        except Exception as error:
            if is_of_the_system(error):
                raise
            raise _damaged(path, error) from error
        if broken is not None:
            raise _damaged(path, f"the checksum of {broken} is another one")
        missing = {_CONFIG, _WEIGHTS} - set(archive.namelist())
        if missing:
            raise ValueError(
                f"{path} is a zip archive without {', '.join(sorted(missing))}, so not "
                "a Keras model; give a .keras file as model.save() writes."
            )
        yield archive


def _is_archive(path):
    """Whether a file has the name and the form of a `.keras` file."""
    if path.suffix != ".keras":
        return False
    # Of a path that may not be opened `is_zipfile` says that it is none.
    with open(path, "rb") as file:
        return zipfile.is_zipfile(file)


def _config_of(archive, path):
    """Returns the configuration in the archive, a dict."""
    try:
        config = json.loads(archive.read(_CONFIG))
    except (ValueError, RecursionError) as error:
        raise _damaged(path, error) from error
    if not isinstance(config, dict):
        raise _damaged(path, f"{_CONFIG} is no dict")
    return config


def _check(archive, path, config, max_memory, kwargs):
    """Looks at what the file would make Keras load and build.

    Args:
        archive: Its `zipfile.ZipFile`.
        path: The file.
        config: The configuration in it.
        max_memory: As for `load_model`.
        kwargs: Those of `keras.saving.load_model`.
    """
    if not kwargs.get("compile", True):
        config = {**config, "compile_config": None}
    weights = io.BytesIO(archive.read(_WEIGHTS))
    how = {k: kwargs[k] for k in ("safe_mode", "custom_objects") if k in kwargs}
    check_content(path, config, weights, WideNet, max_memory, **how)


def _loaded(path, kwargs):
    """Returns the model of a file that has been looked at."""
    try:
        return keras.saving.load_model(path, **kwargs)
    except OF_CONTENT as error:
        if is_of_the_system(error):
            raise
        raise unloadable(path, error) from error


def _damaged(path, said):
    """Returns the error about a file that is not as it was written."""
    return ValueError(
        f"{path} is damaged or not a Keras model ({reason(said)}); give a .keras file "
        "as model.save() writes."
    )
