"""The folder of a training run: checkpoints, tables, pictures, going on."""

from widenet_keras.runs.checkpoints import Checkpoints
from widenet_keras.runs.run import Run

__all__ = [
    "Checkpoints",
    "Run",
]
