"""Train a WideNet on ImageNet-1K, or on any labelled images, as the paper does.

    pip install -e '.[tensorflow,recipes,tfds]'
    python recipes/imagenet.py --output runs/b16 --data tfds:imagenet2012 \
        --data-dir ~/tensorflow_datasets --precision mixed_bfloat16

KERAS_BACKEND=jax or torch trains on that backend. `--data` takes class folders
(train/<class>/*.jpg beside validation/<class>/*.jpg), TFRecords in the usual
ImageNet schema, a NumPy .npz file, or tfds:NAME. Started again with the same
command, a run that was killed goes on and ends with the same weights. `--dry-run`
shows the model, the data and the number of batches, and stops.

The defaults are the recipe of "Go Wider Instead of Deeper" (arXiv 2107.11817):
300 epochs of 4,096 images, LAMB, 0.01 after 30 epochs of warm-up, then linearly to
1e-5, weight decay 0.1, gradients clipped to norm 1, dropout 0.1, label smoothing
0.1, mixup 0.5, RandAugment(2, 15). The paper's top-1 accuracy on ImageNet-1K, and
the cost of all 300 epochs by `widenet_keras.forward_flops` (training costs three
forward passes; 1 EFLOP = 1e18 operations):

    B  --preset widenet_b16                         77.5 %    83 EFLOP
    L  --preset widenet_l16                         79.5 %    233 EFLOP
    H  --preset widenet_h16                         80.1 %    484 EFLOP

With a smaller batch scale the learning rate by its square root, as LAMB's authors
do, or keep the large batch with `--accumulate`:

    --batch-size 512 --accumulate 8
"""

import dataclasses
from typing import Literal

from widenet_keras.data import Augmentation
from widenet_keras.optimizers.optimization import Optimization
from widenet_keras.runs.recipe import PresetRecipe, train
from widenet_keras.utils.command_line import run_command

AUGMENTATION, OPTIMIZATION = Augmentation(), Optimization()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe(PresetRecipe):
    """Train a WideNet on ImageNet-1K or other labelled images."""

    preset: str = "widenet_b16"
    epochs: int = 300
    batch_size: int = 4096
    precision: Literal["float32", "mixed_bfloat16"] | None = "float32"
    """What is computed in, with weights in float32; None for that of the checkpoint."""
    augmentation: Augmentation = AUGMENTATION
    optimization: Optimization = OPTIMIZATION


if __name__ == "__main__":
    run_command(train, Recipe)
