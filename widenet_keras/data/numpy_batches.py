"""Batches made with NumPy alone, for machines without TensorFlow."""

import keras
import numpy as np

from widenet_keras.data.numpy_augmentation import crops_and_flips, finish
from widenet_keras.data.pixels import scale_pixels

# What a stream of random numbers is for, so that no two share their numbers.
_ORDER, _BATCH = range(2)


class NumpyTraining(keras.utils.PyDataset):
    """Endless training batches, each a function of the seed and its number.

    Args:
        source: `Source` whose images can be picked.
        layout: `Layout` of the batches.
        augmentation: `Augmentation`, without RandAugment.
        seed: Seed of the run.
        first: Number of the first batch.
        rows: `range` of the rows of every batch to make.
        broken: `BrokenImages`.
        **kwargs: As for `keras.utils.PyDataset`.
    """

    def __init__(
        self, source, layout, augmentation, seed, first, rows, broken, **kwargs
    ):
        super().__init__(**kwargs)
        self.source = source
        self.layout = layout
        self.augmentation = augmentation
        self.seed = seed
        self.first = first
        self.rows = slice(rows.start, rows.stop)
        self.reader = source.reader(layout, broken)

    @property
    def num_batches(self):
        """None: there is no end."""
        return None

    def __getitem__(self, index):
        layout, number = self.layout, self.first + index
        per_epoch = self.source.count // layout.batch_size
        random = np.random.default_rng((self.seed, _ORDER, number // per_epoch))
        order = random.permutation(self.source.count)
        start = number % per_epoch * layout.batch_size
        images, labels = self.reader.training(
            order[start : start + layout.batch_size],
            whole=self.augmentation.crop == "inception",
        )
        random = np.random.default_rng((self.seed, _BATCH, number))
        images = crops_and_flips(images, layout.image_size, self.augmentation, random)
        targets = one_hot(labels, layout.num_classes)
        # All of it first, since images are mixed with their neighbours.
        batch = finish(images, targets, self.augmentation, random)
        return tuple(part[self.rows] for part in batch)


class NumpyEvaluation(keras.utils.PyDataset):
    """All images in their order, as evaluation sees them; a smaller last batch.

    Args:
        source: `Source` whose images can be picked.
        layout: `Layout` of the batches.
        broken: `BrokenImages`.
        **kwargs: As for `keras.utils.PyDataset`.
    """

    def __init__(self, source, layout, broken, **kwargs):
        super().__init__(**kwargs)
        self.layout = layout
        self.reader = source.reader(layout, broken)

    @property
    def num_batches(self):
        """Number of batches."""
        return -(-self.reader.count // self.layout.batch_size)

    def __getitem__(self, index):
        # Iterating over an object without an end goes by this error.
        if index >= self.num_batches:
            raise IndexError(index)
        first = index * self.layout.batch_size
        images, labels = self.reader.evaluation(
            slice(first, first + self.layout.batch_size)
        )
        targets = one_hot(labels, self.layout.num_classes)
        return scale_pixels(images), targets


def one_hot(labels, classes):
    """Returns (B, classes) float32 with a 1 where each label is."""
    found = np.zeros((len(labels), classes), "float32")
    found[np.arange(len(labels)), labels] = 1
    return found
