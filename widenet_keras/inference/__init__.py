"""Answers from exported files: one predictor for every format."""

from widenet_keras.inference.predictor import Predictor
from widenet_keras.inference.readers import open_predictor

__all__ = [
    "Predictor",
    "open_predictor",
]
