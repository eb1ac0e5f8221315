"""Objective, train steps of the three backends, and the trainable classifier."""

from widenet_keras.optimizers import SGD as SGD
from widenet_keras.optimizers import AdamW as AdamW
from widenet_keras.optimizers import Lamb as Lamb
from widenet_keras.optimizers import Optimization as Optimization
from widenet_keras.optimizers import WarmupDecay as WarmupDecay
from widenet_keras.training.consistency import Consistency as Consistency
from widenet_keras.training.distillation import Distillation as Distillation
from widenet_keras.training.image_classifier import ImageClassifier as ImageClassifier
from widenet_keras.training.relations import HiddenDistillation as HiddenDistillation
from widenet_keras.training.relations import (
    RelationDistillation as RelationDistillation,
)
from widenet_keras.training.terms import Term as Term
from widenet_keras.training.terms_options import Terms as Terms
