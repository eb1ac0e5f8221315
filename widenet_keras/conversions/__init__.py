"""Weights of other libraries, and what becomes of them here."""

from widenet_keras.conversions.extract import extract
from widenet_keras.conversions.from_weights import from_weights
from widenet_keras.conversions.merge import merge
from widenet_keras.conversions.prune import prune
from widenet_keras.conversions.prune_prompts import prune_prompts
from widenet_keras.conversions.relax import relax
from widenet_keras.conversions.tie import tie
from widenet_keras.conversions.to_timm import to_timm
from widenet_keras.conversions.untie import untie

__all__ = [
    "extract",
    "from_weights",
    "merge",
    "prune",
    "prune_prompts",
    "relax",
    "tie",
    "to_timm",
    "untie",
]
