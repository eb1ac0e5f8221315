"""Loading saved models, with one clear line where a file is none.

Nothing of a file is run as Python: Keras opens it in safe mode, and a classifier's
class is looked up among those of this package before anything is made of it.
"""

import json
import zipfile
from pathlib import Path

import keras

from widenet_keras.models.widenet import WideNet
from widenet_keras.utils.archives import check_members

_CONFIG, _WEIGHTS = "config.json", "model.weights.h5"
# What another library says of a file is quoted up to here.
_LONGEST_REASON = 200
# What Keras and h5py raise about what a file says; devices raise others.
_OF_CONTENT = (
    AttributeError,
    IndexError,
    KeyError,
    OSError,
    TypeError,
    ValueError,
)


def load_model(path, **kwargs):
    """Returns the model saved at `path`, on whatever backend runs now.

    The checksums of the archive are compared first.

    Args:
        path: A `.keras` file, written on any backend.
        **kwargs: As for `keras.saving.load_model`.

    Raises:
        ValueError: If the file does not exist, is damaged or not a Keras model.
    """
    path = Path(path)
    _config_of(path)
    return _loaded(path, kwargs)


def load_classifier(path):
    """Returns the WideNet, ViT or ViT-MoE saved at `path`, not compiled.

    Args:
        path: A `.keras` file, written on any backend.

    Raises:
        ValueError: If the file does not exist, is damaged or holds another kind of
            model.
    """
    path = Path(path)
    config = _config_of(path)
    found = keras.saving.get_registered_object(str(config.get("registered_name")))
    if not (isinstance(found, type) and issubclass(found, WideNet)):
        raise ValueError(
            f"{path} is a {config.get('class_name')} and not a classifier of "
            "widenet_keras; give a file that ImageClassifier.save() wrote."
        )
    return _loaded(path, {"compile": False})


def _config_of(path):
    """Returns the configuration in an undamaged `.keras` file, a dict."""
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
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            check_members(archive)
            broken = archive.testzip()
            config = json.loads(archive.read(_CONFIG)) if _CONFIG in names else {}
    # What zipfile raises on damaged bytes is not all BadZipFile.
    except Exception as error:
        raise _damaged(path, error) from error
    if broken is not None:
        raise _damaged(path, f"the checksum of {broken} is another one")
    missing = {_CONFIG, _WEIGHTS} - set(names)
    if missing:
        raise ValueError(
            f"{path} is a zip archive without {', '.join(sorted(missing))}, so not a "
            "Keras model; give a .keras file as model.save() writes."
        )
    if not isinstance(config, dict):
        raise _damaged(path, f"{_CONFIG} is no dict")
    return config


def _loaded(path, kwargs):
    """Returns the model of a file whose checksums are right."""
    try:
        return keras.saving.load_model(path, **kwargs)
    except _OF_CONTENT as error:
        raise ValueError(
            f"{path} cannot be loaded as a Keras model ({_line(error)})."
        ) from error


def _damaged(path, reason):
    """Returns the error about a file that is not as it was written."""
    return ValueError(
        f"{path} is damaged or not a Keras model ({_line(reason)}); give a .keras file "
        "as model.save() writes."
    )


def _line(reason):
    """Returns what another library says as one line that is not too long."""
    line = " ".join(str(reason).split()) or type(reason).__name__
    return line if len(line) <= _LONGEST_REASON else f"{line[:_LONGEST_REASON]} ..."
