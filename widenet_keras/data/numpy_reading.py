"""Images of a source for batches made with NumPy, one by one by their number."""

import functools
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from widenet_keras.data import pillow_images
from widenet_keras.data.broken_images import reason_of
from widenet_keras.data.colours import with_channels
from widenet_keras.models.resizing import evaluated
from widenet_keras.utils.install import install_command
from widenet_keras.utils.quiet import tell


def _as_it_is(image):
    return image


class ByIndex:
    """Reads the images of a source whenever they are needed; files by Pillow.

    Args:
        source: `Source` whose images can be picked.
        layout: `Layout` of the batches.
        broken: `BrokenImages`.
    """

    def __init__(self, source, layout, broken):
        if source.encoded:
            pillow_images.require_pillow("Without TensorFlow image files are")
            _say_slower()
        self.source = source
        self.labels = source.targets
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
        labels = self.labels[rows]
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
        return np.stack(images), self.labels[places]

    def _evaluated(self, image):
        return evaluated(image, self.layout.image_size, self.layout.preprocessing)

    def _images(self, places, function=_as_it_is):
        """Returns images, None for one that cannot be read and is left out."""

        def read(place):
            try:
                return function(pixels_of(self.source, place, self.layout.channels))
            # Decoders raise classes of their own for what is in a file.
            except Exception as error:
                return error

        # Pillow lets other threads run while it decodes.
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            found = list(pool.map(read, map(int, places)))
        for place, image in enumerate(found):
            if isinstance(image, Exception):
                name = self.source.image_name(int(places[place]))
                self.broken.add(name, reason_of(image))
                found[place] = None
        return found


@functools.cache
def _say_slower():
    """Says, once, why it is slower than elsewhere."""
    tell(
        "TensorFlow is not installed, so image files are read with Pillow, which is "
        f"slower; {install_command('tensorflow')} makes it fast."
    )


def pixels_of(source, row, channels):
    """Returns an image of a source, decoded if it is a file.

    Args:
        source: `Source` whose images can be picked.
        row: Number of the image, an int.
        channels: 1 or 3.

    Returns:
        uint8 (height, width, channels).

    Raises:
        ValueError: If the source gives something else.
    """
    image = given(source, row)
    if source.encoded:
        return pillow_images.decoded(image, channels)
    return with_channels(image, channels)


def given(source, row):
    """Returns what `source.image` does, once it is what the source says it is.

    Args:
        source: As for `pixels_of`.
        row: As for `pixels_of`.
    """
    image = source.image(row)
    if source.encoded:
        right, wanted = isinstance(image, bytes), "the bytes of a file, since `encoded`"
    else:
        right = getattr(image, "dtype", None) == "uint8" and image.ndim == 3
        right = right and image.shape[-1] in (1, 3) and image.size > 0
        wanted = "uint8 (height, width, C) with C=1 or 3"
    if right:
        return image
    kind, shape = getattr(image, "dtype", type(image).__name__), np.shape(image)
    raise ValueError(
        f"image(row) returned {kind} of shape {shape} and must return {wanted}"
    )
