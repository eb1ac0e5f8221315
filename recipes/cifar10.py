"""Train a small WideNet on CIFAR-10 or its like, from scratch or from a checkpoint.

    pip install -e '.[tensorflow,recipes]'
    python recipes/cifar10.py --data cifar10 --output runs/cifar10

KERAS_BACKEND=jax or torch trains on that backend. `--data` takes class folders
(train/<class>/*.jpg beside test/<class>/*.jpg), a NumPy .npz file with x_train,
y_train, x_test and y_test, TFRecords, or tfds:NAME. Started again with the same
command, a run that was killed goes on and ends with the same weights.

results/README.md has a run of 14 epochs with 0.656, and studies of 26 epochs. Their
models are smaller than the preset: an epoch of the 50,000 images took one to four
minutes on 2 cores.

Fashion-MNIST, 28 pixels and grey:

    python recipes/cifar10.py --data fashion_mnist.npz --output runs/fashion \
        --fields image_size 28 channels 1

Fine-tuning at another resolution, with the settings of "Go Wider Instead of
Deeper" (arXiv 2107.11817); the position table is resampled, and the last layer
starts anew unless the classes are the same (or as many, where one side has no names):

    python recipes/cifar10.py --data cifar10 --output runs/tuned \
        --checkpoint runs/b16/model.keras --fields image_size 384 dropout 0.1 \
        --epochs 100 --batch-size 512 --optimizer sgd --learning-rate 0.03 \
        --warmup-epochs 0 --weight-decay 0 --mixup 0.5 --smoothing 0

A small model that learns from a large one, what `--teacher` found on the same images:

    python recipes/cifar10.py --data cifar10 --output runs/small \
        --checkpoint relaxed.keras --teacher runs/vit/model.keras --alpha 0.9
"""

import dataclasses

from widenet_keras.data import Augmentation
from widenet_keras.optimizers.optimization import Optimization
from widenet_keras.runs.recipe import (
    FROM_SCRATCH,
    SMALL_IMAGES,
    PresetRecipe,
    train,
)
from widenet_keras.utils.command_line import run_command


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe(PresetRecipe):
    """Train a small WideNet on CIFAR-10 or its like."""

    preset: str = "widenet_small_32"
    epochs: int = 20
    batch_size: int = 64
    augmentation: Augmentation = SMALL_IMAGES
    optimization: Optimization = FROM_SCRATCH


if __name__ == "__main__":
    run_command(train, Recipe)
