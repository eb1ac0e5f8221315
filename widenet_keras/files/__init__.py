"""Files of models: what is in them, whether they are whole, loading."""

from widenet_keras.files.loading import load_model
from widenet_keras.files.named import named_classifier

__all__ = [
    "load_model",
    "named_classifier",
]
