"""Training runs: the folder of one, going on, and what recipes share."""

from widenet_keras.runs.checkpoints import Checkpoints
from widenet_keras.runs.recipe import PresetRecipe, Recipe, train
from widenet_keras.runs.run import Run

__all__ = [
    "Checkpoints",
    "PresetRecipe",
    "Recipe",
    "Run",
    "train",
]
