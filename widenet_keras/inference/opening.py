"""Opens what is at a path as a predictor, by what it is."""

import importlib
import os
from pathlib import Path

from widenet_keras.inference.predictor import Predictor
from widenet_keras.utils.memory import MAX_MEMORY

_KINDS = {
    ".keras": ("widenet_keras.inference.keras_file", "KerasPredictor"),
    ".tflite": ("widenet_keras.inference.litert", "LiteRTPredictor"),
    ".onnx": ("widenet_keras.inference.onnx", "OnnxPredictor"),
}
_FOLDER = ("widenet_keras.inference.saved_model", "SavedModelPredictor")


def open_predictor(
    path: str | os.PathLike, *, trust: bool = False, max_memory: int = MAX_MEMORY
) -> Predictor:
    """Returns the `Predictor` of a model's file.

    Nothing in the file is run as Python, and its checksums are compared before
    any other library sees it. They tell that it is whole, not who wrote it: what it
    would read, run and take in memory is looked at before it is loaded.

    Args:
        path: A `.keras`, `.tflite` or `.onnx` file, or a SavedModel's folder.
        trust: Whether the graph of a SavedModel may hold any operation, such as those
            that read and write files.
        max_memory: Bytes that it may take beyond what the file weighs.

    Raises:
        ValueError: If there is no such file, it is damaged, of another kind, would
            take too much memory or run what no export holds.
        OSError: If the file cannot be read.
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
    kind = getattr(importlib.import_module(module), kind)
    if path.is_dir():
        return kind(path, trust=trust, max_memory=max_memory)
    return kind(path, max_memory=max_memory)
