"""Bilinear resizing with NumPy, in the arithmetic of `tf.image.resize`."""

import numpy as np


def resized(images, size):
    """Returns images at another size, as whole pixels.

    Args:
        images: uint8 (..., height, width, C).
        size: Side of the result, pixels.

    Returns:
        uint8 (..., size, size, C).
    """
    if images.shape[-3:-1] == (size, size):
        return images
    pixels = images.astype("float32")
    # Columns first, as TensorFlow does, so that both round alike.
    for axis in (-2, -3):
        pixels = _along(pixels, size, axis)
    return (pixels + np.float32(0.5)).astype("uint8")


def _along(images, size, axis):
    """Interpolates along one axis; centres of pixels are at halves."""
    old = images.shape[axis]
    scale = np.float32(old) / np.float32(size)
    places = (np.arange(size, dtype="float32") + np.float32(0.5)) * scale
    places -= np.float32(0.5)
    low = np.floor(places)
    part = (places - low).reshape((-1, 1, 1) if axis == -3 else (-1, 1))
    below, above = (
        np.take(images, np.clip(place, 0, old - 1).astype(int), axis)
        for place in (low, np.ceil(places))
    )
    return below + (above - below) * part
