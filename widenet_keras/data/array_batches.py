"""Batches of arrays with NumPy alone, for machines without TensorFlow."""

import functools

import keras
import numpy as np

from widenet_keras.data.array_augmentation import (
    crops_and_flips,
    evaluated,
    finish,
    resized,
    with_channels,
)
from widenet_keras.data.pixels import scale_pixels

# What a stream of random numbers is for, so that no two share their numbers.
_ORDER, _BATCH = range(2)
# Images that grow by no more than this are resized once for all epochs.
_MOST_GROWTH = 2.0
# Pixels and channels that are resized at a time, as float32.
_AT_A_TIME = 2**22


class ArrayTraining(keras.utils.PyDataset):
    """Endless training batches, each a function of the seed and its number.

    Args:
        source: `ArraySource`.
        layout: `Layout` of the batches.
        augmentation: `Augmentation`, without RandAugment.
        seed: Seed of the run.
        first: Number of the first batch.
        rows: `range` of the rows of every batch to make.
        **kwargs: As for `keras.utils.PyDataset`.
    """

    def __init__(self, source, layout, augmentation, seed, first, rows, **kwargs):
        super().__init__(**kwargs)
        self.source = source
        self.layout = layout
        self.augmentation = augmentation
        self.seed = seed
        self.first = first
        self.rows = slice(rows.start, rows.stop)

    @functools.cached_property
    def images(self):
        """The images that batches are made of, uint8."""
        # A crop of "inception" is drawn before it is resized.
        if self.augmentation.crop == "inception":
            return self.source.images
        return resized_once(self.source, self.layout, resized)

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
        rows = order[start : start + layout.batch_size]
        images = with_channels(self.images[rows], layout.channels)
        random = np.random.default_rng((self.seed, _BATCH, number))
        images = crops_and_flips(images, layout.image_size, self.augmentation, random)
        targets = np.eye(layout.num_classes, dtype="float32")[self.source.labels[rows]]
        # All of it first, since images are mixed with their neighbours.
        batch = finish(images, targets, self.augmentation, random)
        return tuple(part[self.rows] for part in batch)


class ArrayEvaluation(keras.utils.PyDataset):
    """All images in their order, as evaluation sees them; a smaller last batch.

    Args:
        source: `ArraySource`.
        layout: `Layout` of the batches.
        **kwargs: As for `keras.utils.PyDataset`.
    """

    def __init__(self, source, layout, **kwargs):
        super().__init__(**kwargs)
        self.source = source
        self.layout = layout

    @functools.cached_property
    def images(self):
        """The images that batches are made of, uint8."""
        return resized_once(self.source, self.layout, self._evaluated)

    @property
    def num_batches(self):
        """Number of batches."""
        return -(-self.source.count // self.layout.batch_size)

    def __getitem__(self, index):
        # Iterating over an object without an end goes by this error.
        if index >= self.num_batches:
            raise IndexError(index)
        layout = self.layout
        first = index * layout.batch_size
        rows = slice(first, first + layout.batch_size)
        images = with_channels(self.images[rows], layout.channels)
        if images.shape[1:] != layout.image_shape:
            images = self._evaluated(images, layout.image_size)
        targets = np.eye(layout.num_classes, dtype="float32")[self.source.labels[rows]]
        return scale_pixels(images), targets

    def _evaluated(self, images, size):
        return evaluated(images, size, self.layout.preprocessing)


def resized_once(source, layout, function):
    """Returns the images in the size of the batches; large ones as they are.

    Args:
        source: `ArraySource`.
        layout: `Layout` of the batches.
        function: Resizes uint8 images (B, height, width, C) to a side in pixels.

    Returns:
        uint8 (count, height, width, C).
    """
    images, size = source.images, layout.image_size
    if size * size > _MOST_GROWTH * images.shape[1] * images.shape[2]:
        return images
    if np.shares_memory(function(images[:1], size), images):
        return function(images, size)
    done = np.empty((len(images), size, size, images.shape[3]), "uint8")
    step = max(1, _AT_A_TIME // max(images[0].size, done[0].size))
    for start in range(0, len(images), step):
        done[start : start + step] = function(images[start : start + step], size)
    return done
