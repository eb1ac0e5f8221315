"""Batches of labelled images for `model.fit` and `model.evaluate`."""

import functools
from collections.abc import Iterable
from typing import Any

from widenet_keras.data.augmentation import Augmentation
from widenet_keras.data.broken_images import BrokenImages
from widenet_keras.data.layout import Layout, checked_layout
from widenet_keras.data.process_rows import Part
from widenet_keras.data.requirements import has_tensorflow, require_tensorflow
from widenet_keras.data.source import Source
from widenet_keras.models.preprocessing import Preprocessing
from widenet_keras.utils.checks import check_integer


class TrainingBatches:
    """The endless batches of a run, each a function of the seed and its number.

    An epoch over the data has its own order; what is over when its last batch is
    full appears in other epochs. The order, the crops and everything else that is
    drawn depend on the seed and on the number of the image or of the batch alone, so
    a run can go on from any batch with the batches it would have had.

    Args:
        source: As for `training_batches`, which makes one.
        layout: `Layout` of a batch.
        augmentation: `Augmentation`.
        seed: Of all that is drawn.
        on_error: As for `training_batches`.

    Attributes:
        batches_per_epoch: Batches of one pass over the data.
        broken: Dict of the broken images that were skipped, names to reasons.
    """

    def __init__(
        self,
        source: Source,
        layout: Layout,
        augmentation: Augmentation,
        seed: int,
        on_error: str,
    ):
        self.source = source
        self.layout = layout
        self.augmentation = augmentation
        self.seed = seed
        self.batches_per_epoch = source.count // layout.batch_size
        self._broken = BrokenImages(on_error)

    @property
    def broken(self) -> dict[str, str]:
        """The broken images that were skipped, names to reasons."""
        return self._broken.found

    def from_batch(self, number: int, part: Part | None = None) -> Any:
        """Returns what `model.fit` takes: all batches from one on, without end.

        Args:
            number: Number of the first batch; those before it are not decoded.
            part: `Part` of every batch to make, for one of several processes;
                None makes all of it. The rows are those of the whole batch.

        Returns:
            A `tf.data.Dataset` of images (B, height, width, channels) float32 in
            [-1, 1] and labels (B, classes) float32; without TensorFlow a
            `keras.utils.PyDataset` of the same.
        """
        check_integer("from_batch", "number", number, 0)
        rows = (part or Part()).rows(self.layout.batch_size)
        if has_tensorflow():
            return self._pipeline.dataset(number, rows)
        from widenet_keras.data.numpy_batches import NumpyTraining

        return NumpyTraining(
            self.source,
            self.layout,
            self.augmentation,
            self.seed,
            number,
            rows,
            self._broken,
        )

    @functools.cached_property
    def _pipeline(self):
        from widenet_keras.data.pipeline.datasets import TrainingPipeline

        return TrainingPipeline(
            self.source, self.layout, self.augmentation, self.seed, self._broken
        )


def training_batches(
    source: Source,
    image_size: int,
    channels: int,
    num_classes: int,
    batch_size: int,
    augmentation: Augmentation | None = None,
    seed: int = 0,
    on_error: str = "raise",
    preprocessing: Preprocessing | None = None,
) -> TrainingBatches:
    """Returns the training batches of a run.

    Args:
        source: What `open_source` returned.
        image_size: Side of the images, pixels.
        channels: 1 or 3.
        num_classes: Number of classes.
        batch_size: B, images per batch.
        augmentation: `Augmentation`; None for the paper's.
        seed: Seed of order and augmentation, a whole number.
        on_error: "raise" stops at an image that cannot be read, with its name;
            "skip" names it on stderr and puts another image of the batch in its
            place.
        preprocessing: `model.preprocessing`, where training is to take the part of
            an image that it says; None for all of it. Inception crops draw their own.

    Returns:
        `TrainingBatches`.

    Raises:
        ValueError: If there are fewer images than a batch has, or a value does not
            fit.
        ImportError: If TensorFlow is needed and not installed.
    """
    augmentation = Augmentation() if augmentation is None else augmentation
    if preprocessing is None:
        preprocessing = augmentation.preprocessing(image_size)
    layout = checked_layout(
        source, image_size, channels, num_classes, batch_size, preprocessing
    )
    check_integer("training_batches", "seed", seed, 0)
    if source.count < batch_size:
        raise ValueError(
            f"{source.name} has {source.count} training images, fewer than "
            f"batch_size={batch_size}; use a batch_size of at most {source.count}."
        )
    if not has_tensorflow() and augmentation.operations:
        require_tensorflow("Images that RandAugment changes are")
    if augmentation.operations and augmentation.randaugment == "keras_cv":
        from widenet_keras.data.pipeline.keras_cv_operations import operation

        operation("identity")
    return TrainingBatches(source, layout, augmentation, seed, on_error)


def evaluation_batches(
    source: Source,
    image_size: int,
    channels: int,
    num_classes: int,
    batch_size: int,
    on_error: str = "raise",
    preprocessing: Preprocessing | None = None,
) -> Iterable:
    """Returns all images in their order, as evaluation sees them.

    Args:
        source: What `open_source` returned.
        image_size: Side of the images, pixels.
        channels: 1 or 3.
        num_classes: Number of classes.
        batch_size: B, images per batch; the last batch may be smaller.
        on_error: "raise" stops at an image that cannot be read, with its name;
            "skip" names it on stderr and leaves it out.
        preprocessing: `model.preprocessing`; None for the usual one.

    Returns:
        A finite `tf.data.Dataset` of images (B, height, width, channels) float32 in
        [-1, 1] and one-hot labels (B, classes) float32; without TensorFlow a
        `keras.utils.PyDataset` of the same.

    Raises:
        ValueError: If a value does not fit.
        ImportError: If TensorFlow is needed and not installed.
    """
    layout = checked_layout(
        source, image_size, channels, num_classes, batch_size, preprocessing
    )
    broken = BrokenImages(on_error)
    if has_tensorflow():
        from widenet_keras.data.pipeline.datasets import evaluation_dataset

        return evaluation_dataset(source, layout, broken)
    from widenet_keras.data.numpy_batches import NumpyEvaluation

    return NumpyEvaluation(source, layout, broken)
