"""Training runs: the folder of one, going on, and what recipes share."""

from widenet_keras.runs.checkpoints import Checkpoints as Checkpoints
from widenet_keras.runs.recipe import PresetRecipe as PresetRecipe
from widenet_keras.runs.recipe import Recipe as Recipe
from widenet_keras.runs.recipe import train as train
from widenet_keras.runs.run import Run as Run
