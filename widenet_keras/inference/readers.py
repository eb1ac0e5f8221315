"""Opens what is at a path as a predictor, by what it is."""

import importlib
from pathlib import Path

_KINDS = {
    ".keras": ("widenet_keras.inference.keras_file", "KerasPredictor"),
    ".tflite": ("widenet_keras.inference.litert", "LiteRTPredictor"),
    ".onnx": ("widenet_keras.inference.onnx", "OnnxPredictor"),
}
_FOLDER = ("widenet_keras.inference.saved_model", "SavedModelPredictor")


def open_predictor(path):
    """Returns the `Predictor` of a model's file.

    Nothing in the file is run as Python, and its checksums are compared before
    any other library sees it.

    Args:
        path: A `.keras`, `.tflite` or `.onnx` file, or a SavedModel's folder.

    Raises:
        ValueError: If there is no such file, it is damaged, or of another kind.
        ImportError: If what runs it is not installed.
    """
    path = Path(path)
    if not path.exists():
        raise ValueError(
            f"{path} does not exist; give a .keras, .tflite or .onnx file, or a "
            "SavedModel's folder."
        )
    if not path.is_dir() and path.suffix not in _KINDS:
        raise ValueError(
            f"{path} is no model; give a {', '.join(_KINDS)} file, or a SavedModel's "
            "folder."
        )
    module, kind = _FOLDER if path.is_dir() else _KINDS[path.suffix]
    return getattr(importlib.import_module(module), kind)(path)
