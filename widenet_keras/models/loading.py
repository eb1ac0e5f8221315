"""Loading saved models, with one clear line where a file is none."""

import json
import zipfile
from pathlib import Path

import keras

from widenet_keras.models.widenet import WideNet


def load_model(path, **kwargs):
    """Returns the model saved at `path`, on whatever backend runs now.

    Args:
        path: A `.keras` file, written on any backend.
        **kwargs: As for `keras.saving.load_model`.

    Raises:
        ValueError: If the file does not exist or is not a Keras model.
    """
    path = Path(path)
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
    with zipfile.ZipFile(path) as archive:
        missing = {"config.json", "model.weights.h5"} - set(archive.namelist())
    if missing:
        raise ValueError(
            f"{path} is a zip archive without {', '.join(sorted(missing))}, so not a "
            "Keras model; give a .keras file as model.save() writes."
        )
    try:
        return keras.saving.load_model(path, **kwargs)
    except (OSError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(
            f"{path} is damaged or not a Keras model ({_first_line(error)}); give a "
            ".keras file as model.save() writes."
        ) from error


def load_classifier(path):
    """Returns the WideNet, ViT or ViT-MoE saved at `path`, not compiled.

    Args:
        path: A `.keras` file, written on any backend.

    Raises:
        ValueError: If the file does not exist or holds another kind of model.
    """
    model = load_model(path, compile=False)
    if not isinstance(model, WideNet):
        raise ValueError(
            f"{path} is a {type(model).__name__} and not a classifier of "
            "widenet_keras; give a file that ImageClassifier.save() wrote."
        )
    return model


def _first_line(error):
    return (str(error).splitlines() or [type(error).__name__])[0]
