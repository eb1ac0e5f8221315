"""Files that run without this package: SavedModel, LiteRT (TFLite), ONNX, .keras.

All but the last go through TensorFlow. A model that lives on JAX or torch is saved,
and a second process opens and exports it there.
"""

from widenet_keras.exports.export import export
from widenet_keras.exports.export_report import ExportReport

__all__ = [
    "ExportReport",
    "export",
]
