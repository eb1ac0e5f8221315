"""Take a model that somebody trained to images of your own.

    pip install -e '.[tensorflow,recipes]'
    python recipes/transfer.py --weights vit_small/ --data flowers --output runs/flowers

`--weights` takes a .keras file of this library, whatever `widenet_keras.from_weights`
opens (a file or a folder of timm, Hugging Face, KerasHub, Google, OpenCLIP), or
hub:OWNER/NAME. `--data` takes class folders, a NumPy .npz file, TFRecords or tfds:NAME,
with images of any size: the model's own preprocessing says what is taken of each, and
grey ones become three equal channels of a model that takes colour. The last layer
starts anew; all other weights are those that were given. `--train` says which learn:

    probe           the last layer alone, a linear classifier of the model's features
    norms_and_head  the norms of the steps and the head
    everything      everything
    from_nothing    everything, of the same model with fresh weights, to compare with

and `--frozen embedding norms` leaves any parts as they are. Each wants a learning rate
of its own. Started again with the same command, a run that was killed goes on.
"""

import dataclasses
from pathlib import Path
from typing import Literal

import widenet_keras  # first: it chooses a backend that is installed

# isort: split
import cifar10
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

FROZEN = {
    "probe": ("embedding", "core", "norms", "pieces"),
    "norms_and_head": ("embedding", "core", "pieces"),
    "everything": (),
    "from_nothing": (),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """Take a model that somebody trained to images of your own."""

    weights: str
    """A .keras file, weights of another library, or hub:OWNER/NAME."""
    data: str
    """Class folders, an .npz file, TFRecords, or tfds:NAME."""
    output: Path
    """Folder of the run; the same command goes on with a run that is there."""
    data_dir: Path | None = None
    """Where TensorFlow Datasets keeps its data."""
    train: Literal[tuple(FROZEN)] = "everything"
    """Which weights learn."""
    frozen: tuple[str, ...] = ()
    """Parts that do not learn, where --train is "everything": embedding, core, norms,
    pieces."""
    fields: dict[str, str] = dataclasses.field(default_factory=dict)
    """Fields of WideNetConfig to change, for example: image_size 384 dropout 0.1."""
    epochs: int = 20
    """Passes over the data."""
    batch_size: int = 64
    """Images per batch."""
    precision: Literal["float32", "mixed_bfloat16"] | None = None
    """What is computed in; if not given, that of the weights, or float32."""
    seed: int = 0
    """Seed of fresh weights, data and noise."""
    train_images: int | None = None
    """Train on that many of the images, evenly spaced; on all if not given."""
    validate_every: int = 1
    """Epochs from one validation to the next; the last model is always tested."""
    on_error: Literal["raise", "skip"] = "raise"
    """What to do about a broken image."""
    augmentation: OmitArgPrefixes[Augmentation] = cifar10.SMALL_IMAGES
    optimization: OmitArgPrefixes[Optimization] = cifar10.FROM_SCRATCH
    terms: OmitArgPrefixes[Terms] = NO_TERMS

    def __post_init__(self):
        check_integer("recipe", "epochs", self.epochs, 1)
        check_integer("recipe", "validate_every", self.validate_every, 1)
        if self.frozen and self.train != "everything":
            raise ValueError(
                f"recipe: --frozen {' '.join(self.frozen)} and --train {self.train} "
                "both say what learns; leave one out."
            )

    def settings(self):
        """Returns what the weights at the end depend on."""
        settings = dataclasses.asdict(self)
        for name in ("output", "data_dir", "validate_every", "on_error", "terms"):
            settings.pop(name)
        settings |= self.terms.settings()
        return {**settings, "backend": keras.backend.backend()}


def starting_model(recipe, data):
    """Returns the model to train: the weights that were given, and a new last layer."""
    if recipe.weights.endswith(".keras"):
        given = named_classifier(recipe.weights)
    else:
        given = widenet_keras.from_weights(recipe.weights)
    given.seed = recipe.seed
    if recipe.train == "from_nothing":
        kept = {"origin": given.origin() | {"trained_on": None}, "seed": recipe.seed}
        given = type(given)(given.config, dtype=given.dtype_policy, **kept)
    fields = widenet_keras.models.parse_fields(recipe.fields, settled=("num_classes",))
    # Without classes first: the last layer starts anew, also for as many of them.
    model = given.adapted(num_classes=0, frozen=()).adapted(
        dtype=recipe.precision,
        class_names=data.class_names if data.named else None,
        num_classes=data.num_classes,
        frozen=FROZEN[recipe.train] + recipe.frozen,
        **fields,
    )
    if recipe.train == "probe":
        for weight in model.head.weights:
            weight.trainable = any(weight is w for w in model.head.logits.weights)
    return model


def main(recipe):
    """Trains on the devices that there are."""
    distribution = distribute()
    with distribution.scope():
        train(recipe, distribution)


def train(recipe, distribution):
    """Trains, evaluates and saves."""
    data = open_source(recipe.data, "train", recipe.data_dir)
    if recipe.train_images is not None:
        data = evenly_spaced(data, recipe.train_images)
    test = open_source(recipe.data, "validation", recipe.data_dir)
    keras.utils.set_random_seed(recipe.seed)
    model = starting_model(recipe, data)
    check_trains(model)
    data, test = trained_for(model, data, test)
    shape = (model.config.image_size, model.config.channels, data.num_classes)
    seen = {"on_error": recipe.on_error, "preprocessing": model.preprocessing}
    stream = training_batches(
        data, *shape, recipe.batch_size, recipe.augmentation, recipe.seed, **seen
    )
    validation = evaluation_batches(test, *shape, recipe.batch_size, **seen)
    batches, say = stream.batches_per_epoch, distribution.say
    say(f"{describe(model)}\ntrain: {data.description}\ntest: {test.description}")
    say(f"{recipe.epochs} epochs of {batches} batches, on {distribution.description}")
    model.compile(
        recipe.optimization.build(recipe.epochs * batches, batches),
        loss=keras.losses.CategoricalCrossentropy(from_logits=True),
        terms=recipe.terms.build(model),
    )
    settings = {**recipe.settings(), **facts_of(data, test)}
    run = Run(recipe.output, settings, distribution)
    done = run.restore(model, recipe.epochs, batches)
    samples = sample_images(test, *shape[:2], **seen)
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
