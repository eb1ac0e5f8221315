"""What recipes share: the flags of a training as a dataclass, and the training."""

import dataclasses
from pathlib import Path
from typing import Any, Literal

import keras

from widenet_keras.data import (
    Augmentation,
    evaluation_batches,
    evenly_spaced,
    facts_of,
    labelled_samples,
    open_source,
    trained_for,
    training_batches,
)
from widenet_keras.data.sources import Source
from widenet_keras.distribution import distribute
from widenet_keras.evaluation import evaluate_classifier
from widenet_keras.files.named import named_classifier
from widenet_keras.files.preset_folders import is_folder
from widenet_keras.models import parse_fields
from widenet_keras.models.description import describe
from widenet_keras.models.frozen import check_trains
from widenet_keras.optimizers.optimization import Optimization
from widenet_keras.runs.run import Run
from widenet_keras.runs.settings import epochs_of_fit
from widenet_keras.training.image_classifier import ImageClassifier
from widenet_keras.training.terms_options import NO_TERMS, Terms
from widenet_keras.training.trainable_variables import check_precision
from widenet_keras.utils.checks import check_integer

# Of images of about 32 pixels, and of models that start from nothing on them.
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
# On what the weights at the end do not depend; what terms do is said apart.
_NO_SETTINGS = (
    *("output", "data_dir", "validate_every", "on_error", "distribute"),
    *("expert_devices", "dry_run", "terms"),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """A training of an `ImageClassifier`; its fields are flags of a command line.

    A recipe is a dataclass with this one as its base that says which model learns, and
    has defaults and fields of its own; `train` does the rest.

    Raises:
        ValueError: If a field is out of range; one line says what is allowed.
    """

    data: str
    """Class folders, an .npz file, TFRecords, tfds:NAME, or digits."""
    output: Path
    """Folder of the run; the same command goes on with a run that is there."""
    data_dir: Path | None = None
    """Where TensorFlow Datasets keeps its data."""
    fields: dict[str, str] = dataclasses.field(default_factory=dict)
    """Fields of WideNetConfig to change, for example: steps 6 dropout 0."""
    frozen: tuple[str, ...] = ()
    """Parts that do not learn: embedding, core, norms, pieces, head; those of the
    checkpoint, or of the folder of a preset, if not given."""
    epochs: int
    """Passes over the data."""
    batch_size: int
    """Images per batch, over all devices."""
    epoch_batches: int | None = None
    """Batches after which to validate and save; one pass over the data if not given.
    A training ends with such an epoch, so it may be longer than `epochs` passes."""
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
    augmentation: Augmentation
    """What is done to training images and their labels. An image is cropped, flipped
    and changed by RandAugment; then a part of it may be erased and it may be mixed with
    its neighbour in the batch."""
    optimization: Optimization
    """Optimizer, learning rate and what is done to gradients and weights. Gradients are
    clipped after they are summed over accumulated batches and over replicas."""
    terms: Terms = NO_TERMS
    """Terms of the objective; none by default."""
    distribute: str = "auto"
    """auto: all devices, all workers of the job; none: one device; or a mode of
    widenet_keras.distribution.distribute."""
    expert_devices: int = 1
    """JAX: devices that share one bank of experts."""
    dry_run: bool = False
    """Show the model, the data and the batches, and stop."""

    def __post_init__(self):
        for name in ("epochs", "validate_every"):
            check_integer("recipe", name, getattr(self, name), 1)
        for name in ("epoch_batches", "train_images"):
            if getattr(self, name) is not None:
                check_integer("recipe", name, getattr(self, name), 1)

    def starting_model(self, data: Source) -> ImageClassifier:
        """Returns the model to train.

        Args:
            data: What it is trained on.
        """
        raise NotImplementedError

    def settings(self) -> dict[str, Any]:
        """Returns what the weights at the end depend on."""
        settings = dataclasses.asdict(self) | {"frozen": sorted(set(self.frozen))}
        for name in _NO_SETTINGS:
            settings.pop(name)
        # Left out where nothing is, as in runs of version 0.1.0.
        if not self.frozen:
            settings.pop("frozen")
        settings |= self.terms.settings()
        return {**settings, "backend": keras.backend.backend()}

    def sources(self) -> tuple[Source, Source]:
        """Returns the images to train on and those to test on; reads no files yet."""
        data = open_source(self.data, "train", self.data_dir)
        if self.train_images is not None:
            data = evenly_spaced(data, self.train_images)
        return data, open_source(self.data, "validation", self.data_dir)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PresetRecipe(Recipe):
    """A training of a fresh model of a preset, or of one in a file or folder."""

    preset: str = "widenet_small_32"
    """The model, if there is no checkpoint; one in a folder, as save_to_preset() writes
    it, is fine-tuned."""
    checkpoint: Path | None = None
    """A .keras file to fine-tune; a fresh model of `preset` if not given."""

    def starting_model(self, data: Source) -> ImageClassifier:
        """Returns the model to train: fresh, or adapted from a file or folder."""
        fields = parse_fields(self.fields, settled=("num_classes",))
        fields["num_classes"] = data.num_classes
        fields |= {"dtype": self.precision, "frozen": self.frozen or None}
        if self.checkpoint or is_folder(self.preset):
            if self.checkpoint:
                given = named_classifier(self.checkpoint)
            else:
                given = ImageClassifier.from_preset(self.preset)
            # The noise of this run is its own.
            given.seed = self.seed
            names = data.class_names if data.named else None
            model = given.adapted(class_names=names, **fields)
        else:
            how = {"seed": self.seed, **fields}
            model = ImageClassifier.from_preset(self.preset, **how)
        model.preprocessing = self.augmentation.preprocessing(model.config.image_size)
        return model


def train(recipe: Recipe) -> dict[str, float]:
    """Trains on the devices that there are, evaluates and saves.

    Args:
        recipe: What to train, on what, and how.

    Returns:
        The metrics on the images to test on; none after a dry run.

    Raises:
        ValueError: If the data, the model and the settings do not fit each other, or
            the output folder is of another run.
    """
    distribution = distribute(recipe.distribute, recipe.expert_devices)
    with distribution.scope():
        return _train(recipe, distribution)


def _train(recipe, distribution):
    data, test = recipe.sources()
    keras.utils.set_random_seed(recipe.seed)
    model = recipe.starting_model(data)
    check_trains(model)
    data, test = trained_for(model, data, test)
    shape = (model.config.image_size, model.config.channels, data.num_classes)
    seen = {"on_error": recipe.on_error, "preprocessing": model.preprocessing}
    stream = training_batches(
        data, *shape, recipe.batch_size, recipe.augmentation, recipe.seed, **seen
    )
    validation = evaluation_batches(test, *shape, recipe.batch_size, **seen)
    distribution.check_batch_size(recipe.batch_size)
    epochs, batches = epochs_of_fit(
        recipe.epochs, stream.batches_per_epoch, recipe.epoch_batches
    )
    say = distribution.say
    say(f"{describe(model)}\ntrain: {data.description}\ntest: {test.description}")
    say(
        f"{epochs} epochs of {batches} batches of {recipe.batch_size} images, on "
        f"{distribution.description}"
    )
    terms = recipe.terms.build(model)
    if recipe.dry_run:
        return {}

    model.compile(
        recipe.optimization.build(epochs * batches, stream.batches_per_epoch),
        loss=keras.losses.CategoricalCrossentropy(from_logits=True),
        terms=terms,
    )
    check_precision(model.optimizer, model.trainable_variables)
    settings = {**recipe.settings(), **facts_of(data, test)}
    run = Run(recipe.output, settings, distribution)
    done = run.restore(model, epochs, batches)
    samples, labels = labelled_samples(test, *shape[:2], **seen)
    model.fit(
        distribution.training(stream, done.batches),
        initial_epoch=done.epochs,
        epochs=epochs,
        steps_per_epoch=batches,
        validation_data=validation,
        validation_freq=recipe.validate_every,
        callbacks=run.callbacks(model, recipe.batch_size, samples),
        verbose=0,
    )
    metrics = model.evaluate(validation, return_dict=True, verbose=0)
    evaluation = None
    if distribution.replicas == distribution.processes == 1:
        # One more pass over the test images, for what `metrics` does not say.
        evaluation = evaluate_classifier(model, validation, progress=False)
    run.finish(model, metrics, samples, labels=labels, evaluation=evaluation)
    say(f"test accuracy: {metrics['accuracy']:.4f}; see {run.folder}/")
    return metrics
