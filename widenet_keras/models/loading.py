"""Loading saved models, with one clear line where a file is none.

Nothing of a file is run as Python: Keras opens it in safe mode, and every class and
function that it names is looked at before anything is made of it. So is the memory that
it would take.
"""

import contextlib
import io
import json
import zipfile
from pathlib import Path

import keras

from widenet_keras.models.memory import built_size
from widenet_keras.models.safe_config import check_classes, dicts_in
from widenet_keras.models.widenet import WideNet
from widenet_keras.utils.archives import check_members, unpacked_size
from widenet_keras.utils.hdf5 import check_hdf5
from widenet_keras.utils.memory import MAX_MEMORY, check_memory
from widenet_keras.utils.printable import printable

_CONFIG, _WEIGHTS = "config.json", "model.weights.h5"
# What another library says of a file is quoted up to here.
_LONGEST_REASON = 200
# What Keras and h5py raise about what a file says; devices raise others.
_OF_CONTENT = (
    AttributeError,
    IndexError,
    KeyError,
    OSError,
    RecursionError,
    TypeError,
    ValueError,
)


def load_model(path, *, max_memory: int = MAX_MEMORY, **kwargs):
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
    """
    path, kwargs = Path(path), {"compile": False}
    with _opened(path, max_memory) as archive:
        config = _config_of(archive, path)
        if not _is_classifier(config):
            raise ValueError(
                f"{path} is a {_line(config.get('class_name'))} and not a classifier "
                "of widenet_keras; give a file that ImageClassifier.save() wrote."
            )
        _check(archive, path, config, max_memory, kwargs)
    return _loaded(path, kwargs)


@contextlib.contextmanager
def _opened(path, max_memory):
    """Yields the archive of a `.keras` file, which is undamaged and not too large."""
    if path.is_dir():
        raise ValueError(
            f"{path} is a folder and load_model() reads .keras files; load a "
            "SavedModel with tf.saved_model.load()."
        )
    if not path.exists():
        raise ValueError(f"{path} does not exist; give the path of a .keras file.")
    if path.suffix != ".keras" or not zipfile.is_zipfile(path):
        raise ValueError(
            f"{path} is not a Keras model; give a .keras file as model.save() writes."
        )
    with contextlib.ExitStack() as stack:
        try:
            archive = stack.enter_context(zipfile.ZipFile(path))
            check_members(archive)
        # What zipfile raises on damaged bytes is not all BadZipFile.
        except Exception as error:
            raise _damaged(path, error) from error
        check_memory(path, "what is packed in it", unpacked_size(archive), max_memory)
        try:
            broken = archive.testzip()
        except Exception as error:
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


def _config_of(archive, path):
    """Returns the configuration in the archive, a dict."""
    try:
        config = json.loads(archive.read(_CONFIG))
    except (ValueError, RecursionError) as error:
        raise _damaged(path, error) from error
    if not isinstance(config, dict):
        raise _damaged(path, f"{_CONFIG} is no dict")
    return config


def _is_classifier(config):
    """Returns whether a part of a configuration is one of our classifiers."""
    found = keras.saving.get_registered_object(str(config.get("registered_name")))
    return isinstance(found, type) and issubclass(found, WideNet)


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
    try:
        if kwargs.get("safe_mode", True):
            check_classes(config, kwargs.get("custom_objects"))
        ours = filter(_is_classifier, dicts_in(config))
        built = sum(built_size(each["config"]["config"]) for each in ours)
        arrays = check_hdf5(io.BytesIO(archive.read(_WEIGHTS)))
    # Of damaged groups h5py raises this one as well.
    except (*_OF_CONTENT, RuntimeError) as error:
        raise _unloadable(path, error) from error
    check_memory(path, "the model", built, max_memory)
    check_memory(path, "its weights", arrays, max_memory)


def _loaded(path, kwargs):
    """Returns the model of a file that has been looked at."""
    try:
        return keras.saving.load_model(path, **kwargs)
    except _OF_CONTENT as error:
        raise _unloadable(path, error) from error


def _unloadable(path, error):
    """Returns the error about a whole file of which no model can be made."""
    return ValueError(f"{path} cannot be loaded as a Keras model ({_line(error)}).")


def _damaged(path, reason):
    """Returns the error about a file that is not as it was written."""
    return ValueError(
        f"{path} is damaged or not a Keras model ({_line(reason)}); give a .keras file "
        "as model.save() writes."
    )


def _line(reason):
    """Returns what another library says as one line that is not too long."""
    line = printable(" ".join(str(reason).split())) or type(reason).__name__
    return line if len(line) <= _LONGEST_REASON else f"{line[:_LONGEST_REASON]} ..."
