"""Where batches made with NumPy have their images: in memory, or in image files."""

import functools
import os
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from widenet_keras.data import pillow_images
from widenet_keras.data.array_augmentation import evaluated
from widenet_keras.data.arrays import ArraySource
from widenet_keras.data.broken_images import reason_of
from widenet_keras.data.colours import with_channels
from widenet_keras.utils.install import install_command

# Images that grow by no more than this are resized once for all epochs.
_MOST_GROWTH = 2.0
# Pixels and channels that are resized at a time, as float32.
_AT_A_TIME = 2**22


def reader_of(source, layout, broken):
    """Returns the reader for a source.

    Args:
        source: `ArraySource` or `FolderSource`.
        layout: `Layout` of the batches.
        broken: `BrokenImages`.
    """
    if isinstance(source, ArraySource):
        return InMemory(source, layout)
    return InFiles(source, layout, broken)


class InMemory:
    """Images of an array.

    Args:
        source: `ArraySource`.
        layout: `Layout` of the batches.
    """

    def __init__(self, source, layout):
        self.source = source
        self.layout = layout
        self.count = source.count

    @functools.cached_property
    def _taken(self):
        return resized_once(self.source, self.layout, self._evaluated)

    def training(self, rows, whole):
        """Returns images and labels to crop; images as they are if `whole`."""
        if not whole:
            return self.evaluation(rows)
        # A crop of "inception" is drawn before it is resized.
        images = with_channels(self.source.images[rows], self.layout.channels)
        return images, self.source.labels[rows]

    def evaluation(self, rows):
        """Returns what evaluation sees of some images, and their labels."""
        images = with_channels(self._taken[rows], self.layout.channels)
        if images.shape[1:] != self.layout.image_shape:
            images = self._evaluated(images, self.layout.image_size)
        return images, self.source.labels[rows]

    def _evaluated(self, images, size):
        return evaluated(images, size, self.layout.preprocessing)


def _as_it_is(image):
    return image


class InFiles:
    """Images of class folders, read by Pillow whenever they are needed.

    Args:
        source: `FolderSource`.
        layout: `Layout` of the batches.
        broken: `BrokenImages`.
    """

    def __init__(self, source, layout, broken):
        pillow_images.require_pillow("Without TensorFlow image files are")
        _say_slower()
        self.source = source
        self.layout = layout
        self.broken = broken

    @property
    def count(self):
        """Number of images that can be read, as far as that is looked at."""
        return len(self._readable)

    @functools.cached_property
    def _readable(self):
        """Places of the images in the source, without those to leave out."""
        places = np.arange(self.source.count)
        if self.broken.on_error == "raise":
            return places
        # How many batches there are must be known before the first one.
        step, kept = 256, []
        for first in range(0, len(places), step):
            part = places[first : first + step]
            images = self._images(part)
            kept += [p for p, i in zip(part, images, strict=True) if i is not None]
        return np.array(kept, int)

    def training(self, rows, whole):
        """Returns images and labels to crop, others in the place of broken ones."""
        images = self._images(rows, _as_it_is if whole else self._evaluated)
        labels = self.source.labels[rows]
        good = [place for place, image in enumerate(images) if image is not None]
        if not good:
            raise ValueError(
                "None of the images of a batch can be read; look at the first one "
                "that was skipped."
            )
        # A lost image becomes a copy of one that was read, another one for each.
        places = [
            place if image is not None else good[place % len(good)]
            for place, image in enumerate(images)
        ]
        return [images[place] for place in places], labels[places]

    def evaluation(self, rows):
        """Returns what evaluation sees of the images of a slice, and their labels."""
        places = self._readable[rows]
        images = self._images(places, self._evaluated)
        return np.stack(images), self.source.labels[places]

    def _evaluated(self, image):
        return evaluated(image, self.layout.image_size, self.layout.preprocessing)

    def _images(self, places, function=_as_it_is):
        """Returns images, None for one that cannot be read and is left out."""
        paths = [self.source.path(place) for place in places]

        def read(path):
            try:
                with open(path, "rb") as file:
                    content = file.read()
                return function(pillow_images.decoded(content, self.layout.channels))
            # Decoders raise classes of their own for what is in a file.
            except Exception as error:
                return error

        # Pillow lets other threads run while it decodes.
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            found = list(pool.map(read, paths))
        for place, image in enumerate(found):
            if isinstance(image, Exception):
                name = os.fsdecode(self.source.files[places[place]])
                self.broken.add(name, reason_of(image))
                found[place] = None
        return found


@functools.cache
def _say_slower():
    """Says, once, why it is slower than elsewhere."""
    print(
        "TensorFlow is not installed, so image files are read with Pillow, which is "
        f"slower; {install_command('tensorflow')} makes it fast.",
        file=sys.stderr,
    )


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
