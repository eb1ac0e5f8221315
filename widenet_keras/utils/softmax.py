"""The softmax of logits in NumPy."""

import numpy as np


def probabilities(logits: np.ndarray) -> np.ndarray:
    """Returns the softmax of logits (..., classes), float64.

    Args:
        logits: Array of floats.
    """
    odds = np.exp(logits - np.max(logits, axis=-1, keepdims=True), dtype="float64")
    return odds / odds.sum(axis=-1, keepdims=True)
