"""Train a small WideNet on CIFAR-10 or its like, from scratch or from a checkpoint.

    pip install -e '.[tensorflow,recipes]'
    python recipes/cifar10.py --data cifar10 --output runs/cifar10

KERAS_BACKEND=jax or torch trains on that backend. `--data` takes class folders
(train/<class>/*.jpg beside test/<class>/*.jpg), a NumPy .npz file with x_train,
y_train, x_test and y_test, TFRecords, or tfds:NAME. Started again with the same
command, a run that was killed goes on and ends with the same weights.

Fashion-MNIST, 28 pixels and grey:

    python recipes/cifar10.py --data fashion_mnist.npz --output runs/fashion \
        --fields image_size 28 channels 1

Fine-tuning at another resolution, with the settings of "Go Wider Instead of
Deeper" (arXiv 2107.11817); the position table is resampled and the last layer
starts anew:

    python recipes/cifar10.py --data cifar10 --output runs/tuned \
        --checkpoint runs/b16/model.keras --fields image_size 384 dropout 0.1 \
        --epochs 100 --batch-size 512 --optimizer sgd --learning-rate 0.03 \
        --warmup-epochs 0 --weight-decay 0 --mixup 0.5 --smoothing 0

A small model that learns from a large one, what `--teacher` found on the same images:

    python recipes/cifar10.py --data cifar10 --output runs/small \
        --checkpoint relaxed.keras --teacher runs/vit/model.keras --alpha 0.9
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
    evenly_spaced,
    facts_of,
    open_source,
    sample_images,
    trained_for,
    training_batches,
)
from widenet_keras.distribution import distribute
from widenet_keras.files.named import named_classifier
from widenet_keras.models.description import describe
from widenet_keras.models.frozen import check_trains
from widenet_keras.optimizers.optimization import Optimization
from widenet_keras.runs.run import Run
from widenet_keras.training.terms_options import NO_TERMS, Terms
from widenet_keras.utils.checks import check_integer
from widenet_keras.utils.command_line import run_command

SMALL_IMAGES = Augmentation(
    crop="pad", randaugment_ops=0, mixup=0.0, cutmix=0.0, smoothing=0.1
)
FROM_SCRATCH = Optimization(
    optimizer="adamw",
    learning_rate=1e-3,
    final_learning_rate=1e-5,
    warmup_epochs=1.0,
    decay="cosine",
    weight_decay=0.05,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """Train a small WideNet on CIFAR-10 or its like."""

    data: str
    """Class folders, an .npz file, TFRecords, tfds:NAME, or digits."""
    output: Path
    """Folder of the run; the same command goes on with a run that is there."""
    data_dir: Path | None = None
    """Where TensorFlow Datasets keeps its data."""
    checkpoint: Path | None = None
    """A .keras file to fine-tune; a fresh model of `preset` if not given."""
    preset: str = "widenet_small_32"
    """The model, if there is no checkpoint."""
    fields: dict[str, str] = dataclasses.field(default_factory=dict)
    """Fields of WideNetConfig to change, for example: steps 6 dropout 0."""
    frozen: tuple[str, ...] = ()
    """Parts that do not learn: embedding, core, norms, pieces, head; those of the
    checkpoint if not given."""
    epochs: int = 20
    """Passes over the data."""
    batch_size: int = 64
    """Images per batch."""
    precision: Literal["float32", "mixed_bfloat16"] | None = None
    """What is computed in, with weights in float32; if not given, that of the
    checkpoint, or float32."""
    seed: int = 0
    """Seed of weights, data and noise."""
    train_images: int | None = None
    """Train on that many of the images, evenly spaced; on all if not given."""
    validate_every: int = 1
    """Epochs from one validation to the next; the last model is always tested."""
    on_error: Literal["raise", "skip"] = "raise"
    """What to do about a broken image."""
    augmentation: OmitArgPrefixes[Augmentation] = SMALL_IMAGES
    optimization: OmitArgPrefixes[Optimization] = FROM_SCRATCH
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
        check_integer("recipe", "validate_every", self.validate_every, 1)
        if self.train_images is not None:
            check_integer("recipe", "train_images", self.train_images, 1)

    def settings(self):
        """Returns what the weights at the end depend on."""
        settings = dataclasses.asdict(self)
        for name in (
            "output",
            "data_dir",
            "validate_every",
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


def sources(recipe):
    """Returns the images to train on and those to test on; reads none yet."""
    data = open_source(recipe.data, "train", recipe.data_dir)
    if recipe.train_images is not None:
        data = evenly_spaced(data, recipe.train_images)
    return data, open_source(recipe.data, "validation", recipe.data_dir)


def starting_model(recipe, data):
    """Returns the model to train: fresh, or adapted from a checkpoint."""
    fields = widenet_keras.models.parse_fields(recipe.fields, settled=("num_classes",))
    fields["num_classes"] = data.num_classes
    if recipe.checkpoint:
        model = named_classifier(recipe.checkpoint)
        names = data.class_names if data.named else None
        return model.adapted(
            dtype=recipe.precision,
            class_names=names,
            frozen=recipe.frozen or None,
            **fields,
        )
    return widenet_keras.ImageClassifier.from_preset(
        recipe.preset,
        seed=recipe.seed,
        dtype=recipe.precision,
        frozen=recipe.frozen,
        **fields,
    )


def main(recipe):
    """Trains on the devices that there are."""
    distribution = distribute(recipe.distribute, recipe.expert_devices)
    with distribution.scope():
        train(recipe, distribution)


def train(recipe, distribution):
    """Trains, evaluates and saves."""
    data, test = sources(recipe)
    keras.utils.set_random_seed(recipe.seed)
    model = starting_model(recipe, data)
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
    batches = stream.batches_per_epoch
    say = distribution.say
    say(describe(model))
    say(f"train: {data.description}\nvalidation: {test.description}")
    say(
        f"{recipe.epochs} epochs of {batches} batches of {recipe.batch_size} images, "
        f"on {distribution.description}"
    )
    terms = recipe.terms.build(model)
    if recipe.dry_run:
        return

    model.compile(
        recipe.optimization.build(recipe.epochs * batches, batches),
        loss=keras.losses.CategoricalCrossentropy(from_logits=True),
        terms=terms,
    )
    settings = {**recipe.settings(), **facts_of(data, test)}
    run = Run(recipe.output, settings, distribution)
    done = run.restore(model, recipe.epochs, batches)
    samples = sample_images(
        test, *shape[:2], on_error=recipe.on_error, preprocessing=model.preprocessing
    )
    model.fit(
        distribution.training(stream, done.batches),
        initial_epoch=done.epochs,
        epochs=recipe.epochs,
        steps_per_epoch=batches,
        validation_data=validation,
        validation_freq=recipe.validate_every,
        callbacks=run.callbacks(model, recipe.batch_size, samples),
        verbose=0,
    )
    metrics = model.evaluate(validation, return_dict=True, verbose=0)
    run.finish(model, metrics, samples)
    say(f"test accuracy: {metrics['accuracy']:.4f}; see {run.folder}/")


if __name__ == "__main__":
    run_command(main, Recipe)
