"""Train a WideNet on ImageNet-1K, or on any labelled images, as the paper does.

    pip install -e '.[tensorflow,recipes]'
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
from pathlib import Path
from typing import Literal

import widenet_keras  # first: it chooses a backend that is installed

# isort: split
import keras
from tyro.conf import OmitArgPrefixes

from widenet_keras.data import (
    Augmentation,
    evaluation_batches,
    facts_of,
    open_source,
    sample_images,
    trained_for,
    training_batches,
)
from widenet_keras.distribution import distribute
from widenet_keras.models.description import describe
from widenet_keras.models.frozen import check_trains
from widenet_keras.optimizers.optimization import Optimization
from widenet_keras.runs.run import Run
from widenet_keras.training.terms_options import NO_TERMS, Terms
from widenet_keras.utils.checks import check_integer
from widenet_keras.utils.command_line import run_command

OF_THE_PAPER = (Augmentation(), Optimization())


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """Train a WideNet on ImageNet-1K or other labelled images."""

    data: str
    """Class folders, TFRecords, an .npz file, or tfds:NAME."""
    output: Path
    """Folder of the run; the same command goes on with a run that is there."""
    data_dir: Path | None = None
    """Where TensorFlow Datasets keeps its data."""
    preset: str = "widenet_b16"
    """The model."""
    fields: dict[str, str] = dataclasses.field(default_factory=dict)
    """Fields of WideNetConfig to change, for example: steps 6 remat full."""
    frozen: tuple[str, ...] = ()
    """Parts that do not learn: embedding, core, norms, pieces, head."""
    epochs: int = 300
    """Passes over the data."""
    batch_size: int = 4096
    """Images per batch, over all devices."""
    epoch_batches: int | None = None
    """Batches after which to validate and save; one pass over the data if not given."""
    precision: Literal["float32", "mixed_bfloat16"] = "float32"
    """What is computed in; weights are float32."""
    seed: int = 0
    """Seed of weights, data and noise."""
    on_error: Literal["raise", "skip"] = "raise"
    """What to do about a broken image."""
    augmentation: OmitArgPrefixes[Augmentation] = OF_THE_PAPER[0]
    optimization: OmitArgPrefixes[Optimization] = OF_THE_PAPER[1]
    terms: OmitArgPrefixes[Terms] = NO_TERMS
    distribute: str = "auto"
    """auto: all devices, all workers of the job; none: one device; or a mode of
    widenet_keras.distribution.distribute."""
    expert_devices: int = 1
    """JAX: devices that share one bank of experts."""
    dry_run: bool = False
    """Show the model, the data and the batches, and stop."""

    def __post_init__(self):
        check_integer("recipe", "epochs", self.epochs, 1)
        if self.epoch_batches is not None:
            check_integer("recipe", "epoch_batches", self.epoch_batches, 1)

    def settings(self):
        """Returns what the weights at the end depend on."""
        settings = dataclasses.asdict(self)
        for name in (
            "output",
            "data_dir",
            "on_error",
            "distribute",
            "expert_devices",
            "dry_run",
            "terms",
            # Left out where nothing is, as in runs of earlier versions.
            *(() if self.frozen else ("frozen",)),
        ):
            settings.pop(name)
        if self.frozen:
            settings["frozen"] = sorted(set(self.frozen))
        settings |= self.terms.settings()
        return {**settings, "backend": keras.backend.backend()}


def main(recipe):
    """Trains on the devices that there are."""
    distribution = distribute(recipe.distribute, recipe.expert_devices)
    with distribution.scope():
        train(recipe, distribution)


def train(recipe, distribution):
    """Trains, evaluates and saves."""
    data = open_source(recipe.data, "train", recipe.data_dir)
    test = open_source(recipe.data, "validation", recipe.data_dir)
    keras.utils.set_random_seed(recipe.seed)
    model = widenet_keras.ImageClassifier.from_preset(
        recipe.preset,
        seed=recipe.seed,
        dtype=recipe.precision,
        num_classes=data.num_classes,
        frozen=recipe.frozen,
        **widenet_keras.models.parse_fields(recipe.fields, settled=("num_classes",)),
    )
    check_trains(model)
    data, test = trained_for(model, data, test, recipe.augmentation)
    shape = (model.config.image_size, model.config.channels, data.num_classes)
    stream = training_batches(
        data,
        *shape,
        recipe.batch_size,
        recipe.augmentation,
        recipe.seed,
        on_error=recipe.on_error,
    )
    validation = evaluation_batches(
        test,
        *shape,
        recipe.batch_size,
        on_error=recipe.on_error,
        preprocessing=model.preprocessing,
    )
    # An epoch of `fit` is what lies between two checkpoints.
    whole = recipe.epochs * stream.batches_per_epoch
    batches = min(recipe.epoch_batches or stream.batches_per_epoch, whole)
    epochs = -(-whole // batches)
    say = distribution.say
    say(describe(model))
    say(f"train: {data.description}\nvalidation: {test.description}")
    say(
        f"{epochs} epochs of {batches} batches of {recipe.batch_size} images, on "
        f"{distribution.description}"
    )
    terms = recipe.terms.build(model)
    if recipe.dry_run:
        return

    model.compile(
        recipe.optimization.build(epochs * batches, stream.batches_per_epoch),
        loss=keras.losses.CategoricalCrossentropy(from_logits=True),
        terms=terms,
    )
    settings = {**recipe.settings(), **facts_of(data, test)}
    run = Run(recipe.output, settings, distribution)
    done = run.restore(model, epochs, batches)
    samples = sample_images(
        test, *shape[:2], on_error=recipe.on_error, preprocessing=model.preprocessing
    )
    model.fit(
        distribution.training(stream, done.batches),
        initial_epoch=done.epochs,
        epochs=epochs,
        steps_per_epoch=batches,
        validation_data=validation,
        callbacks=run.callbacks(model, recipe.batch_size, samples),
        verbose=0,
    )
    metrics = model.evaluate(validation, return_dict=True, verbose=0)
    run.finish(model, metrics, samples)
    say(f"validation accuracy: {metrics['accuracy']:.4f}; see {run.folder}/")


if __name__ == "__main__":
    run_command(main, Recipe)
