"""Objective, train steps of the three backends, and the trainable classifier."""

from widenet_keras.optimizers import SGD, AdamW, Lamb, Optimization, WarmupDecay
from widenet_keras.training.consistency import Consistency
from widenet_keras.training.distillation import Distillation
from widenet_keras.training.image_classifier import ImageClassifier
from widenet_keras.training.relations import HiddenDistillation, RelationDistillation
from widenet_keras.training.terms import Term
from widenet_keras.training.terms_options import Terms

__all__ = [
    "SGD",
    "AdamW",
    "Consistency",
    "Distillation",
    "HiddenDistillation",
    "ImageClassifier",
    "Lamb",
    "Optimization",
    "RelationDistillation",
    "Term",
    "Terms",
    "WarmupDecay",
]
