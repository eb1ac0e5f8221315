"""How good a classifier is, how sure it is of itself, and where its tokens go."""

from widenet_keras.evaluation.evaluate import evaluate_classifier
from widenet_keras.evaluation.result import Evaluation

__all__ = [
    "Evaluation",
    "evaluate_classifier",
]
