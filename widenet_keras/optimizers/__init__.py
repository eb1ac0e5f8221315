"""Optimizers, their schedules, and which weights they treat how."""

from widenet_keras.optimizers.optimization import Optimization
from widenet_keras.optimizers.optimizers import SGD, AdamW, Lamb
from widenet_keras.optimizers.schedules import WarmupDecay

__all__ = [
    "SGD",
    "AdamW",
    "Lamb",
    "Optimization",
    "WarmupDecay",
]
