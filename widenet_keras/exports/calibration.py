"""Images as converters take them to find the ranges of activations."""

import numpy as np

from widenet_keras.data.pixels import whole_pixels


def calibration_batches(images, options):
    """Yields NumPy batches that fit what an export takes.

    Args:
        images: (B, height, width, channels) float32 in [-1, 1].
        options: `Options`; a fixed batch is filled by turning around.
    """
    if options.input == "uint8":
        images = whole_pixels(images)
    step = options.batch_size or 1
    missing = -len(images) % step
    images = np.concatenate([images, np.resize(images, (missing, *images.shape[1:]))])
    for first in range(0, len(images), step):
        yield images[first : first + step]
