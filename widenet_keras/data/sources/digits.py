"""scikit-learn's handwritten digits: 1,797 real 8x8 images that need no network."""

from pathlib import Path

import keras
import numpy as np

from widenet_keras.data.pixels import whole_pixels
from widenet_keras.data.sources.arrays import ArraySource
from widenet_keras.utils.install import install_command
from widenet_keras.utils.quiet import tell

CLASSES = tuple("0123456789")


def opened(data, split: str, data_dir) -> ArraySource | None:
    """Returns the digits if they are asked for as "digits"; see `SOURCES`.

    Args:
        data: What was asked for.
        split: "train"; the test images serve as "validation" and "test".
        data_dir: Not for digits.
    """
    # A path is never the word, even where it has no other part.
    if not isinstance(data, str) or data != "digits":
        return None
    if Path(data).is_dir():
        tell("digits: those of scikit-learn; the folder of this name is ./digits")
    training, test = load_digits()
    images, labels = training if split == "train" else test
    return ArraySource(
        name="digits",
        count=len(images),
        class_names=CLASSES,
        description=f"digits, {split}: {len(images)} images, 10 classes",
        images=whole_pixels(images),
        labels=labels.astype("int64"),
    )


def load_digits(test_fraction: float = 0.25) -> tuple:
    """Returns the digits, split into training and test images.

    The split is the same on every call: stratified by class, shuffled with
    seed 0. Pixels are scaled to [-1, 1].

    Args:
        test_fraction: Fraction of the images to test on.

    Returns:
        ((x_train, y_train), (x_test, y_test)): images (B, 8, 8, 1) float32 and
        labels (B,) int32.

    Raises:
        ImportError: If scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits as load
        from sklearn.model_selection import train_test_split
    except ImportError:
        raise ImportError(
            "The digits come with scikit-learn, which is not installed; run "
            f"{install_command('digits')}."
        ) from None
    digits = load()
    images = (digits.images / 8.0 - 1.0).astype("float32")[..., None]
    x_train, x_test, y_train, y_test = train_test_split(
        images,
        digits.target.astype("int32"),
        test_size=test_fraction,
        stratify=digits.target,
        random_state=0,
    )
    return (x_train, y_train), (x_test, y_test)


class AugmentedDigits(keras.utils.PyDataset):
    """Shuffled batches of randomly moved, turned, sized and slanted digits.

    Labels are one-hot with label smoothing. Needs no TensorFlow, so it feeds
    every backend. The same seed gives the same batches where they are asked for in the
    same order, which Keras does in its own way on each of them.

    Args:
        images: (B, 8, 8, 1) float32 in [-1, 1].
        labels: (B,) integers.
        batch_size: Images per batch.
        seed: Seed of order and augmentation.
        smoothing: Label smoothing, from 0 to 1.
        **kwargs: As for `keras.utils.PyDataset`.
    """

    def __init__(self, images, labels, batch_size, seed=0, smoothing=0.1, **kwargs):
        super().__init__(**kwargs)
        self.images = images
        classes = len(CLASSES)
        one_hot = np.eye(classes, dtype="float32")[labels]
        self.labels = one_hot * (1 - smoothing) + smoothing / classes
        self.batch_size = batch_size
        self.random = np.random.default_rng(seed)
        self.order = self.random.permutation(len(images))

    @property
    def num_batches(self):
        """Full batches of an epoch; the images over are in the next one's draw."""
        return len(self.images) // self.batch_size

    def __getitem__(self, index):
        rows = self.order[index * self.batch_size : (index + 1) * self.batch_size]
        return augment(self.images[rows], self.random), self.labels[rows]

    def on_epoch_end(self):
        """Shuffles for the next epoch."""
        self.order = self.random.permutation(len(self.images))


def augment(images, random, turn=0.15, scale=0.1, slant=0.1, shift=0.6):
    """Returns the images, each under a random affine map, bilinear.

    Args:
        images: (B, height, width, channels) float; what lies outside is -1.
        random: `numpy.random.Generator`.
        turn: Largest angle, radians.
        scale: Largest relative change of size.
        slant: Largest shear.
        shift: Largest shift, pixels.
    """
    batch, height, width, _ = images.shape
    angle = random.uniform(-turn, turn, batch)
    sizes = random.uniform(1 - scale, 1 + scale, (2, batch))
    shear = random.uniform(-slant, slant, batch)
    shifts = random.uniform(-shift, shift, (2, batch, 1, 1))
    cosine, sine = np.cos(angle), np.sin(angle)
    matrix = np.stack(
        [
            [cosine / sizes[0], -sine / sizes[0]],
            [sine / sizes[1] + shear, cosine / sizes[1]],
        ]
    )[..., None, None]
    row, column = np.mgrid[:height, :width].astype("float64")
    row, column = row - (height - 1) / 2, column - (width - 1) / 2
    source_row = matrix[0, 0] * row + matrix[0, 1] * column + shifts[0]
    source_column = matrix[1, 0] * row + matrix[1, 1] * column + shifts[1]
    return _bilinear(
        images, source_row + (height - 1) / 2, source_column + (width - 1) / 2
    )


def _bilinear(images, rows, columns):
    """Samples images (B, H, W, C) at real positions (B, H, W)."""
    padded = np.pad(images, ((0, 0), (1, 2), (1, 2), (0, 0)), constant_values=-1.0)
    rows = np.clip(rows + 1, 0, padded.shape[1] - 2)
    columns = np.clip(columns + 1, 0, padded.shape[2] - 2)
    top, left = rows.astype(int), columns.astype(int)
    down = (rows - top)[..., None]
    right = (columns - left)[..., None]
    image = np.arange(len(images))[:, None, None]

    def at(row, column):
        return padded[image, row, column]

    upper = at(top, left) * (1 - right) + at(top, left + 1) * right
    lower = at(top + 1, left) * (1 - right) + at(top + 1, left + 1) * right
    return (upper * (1 - down) + lower * down).astype(images.dtype)
