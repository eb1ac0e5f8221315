"""Answers from exported files: one predictor for every format."""

from widenet_keras.inference.opening import open_predictor
from widenet_keras.inference.predictor import Predictor

__all__ = [
    "Predictor",
    "open_predictor",
]
