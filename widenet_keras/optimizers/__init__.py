"""Optimizers, their schedules, and which weights they treat how."""

from widenet_keras.optimizers.optimization import Optimization as Optimization
from widenet_keras.optimizers.optimizers import SGD as SGD
from widenet_keras.optimizers.optimizers import AdamW as AdamW
from widenet_keras.optimizers.optimizers import Lamb as Lamb
from widenet_keras.optimizers.schedules import WarmupDecay as WarmupDecay
