"""Pixels: from bytes to the floats that the models take."""

import keras
import numpy as np


def scale_pixels(images):
    """Returns uint8 pixels 0..255 as float32 in [-1, 1].

    Args:
        images: NumPy array or tensor of uint8, any shape.

    Raises:
        ValueError: If the images are not uint8: they may be scaled already.
    """
    if not hasattr(images, "dtype"):
        images = np.asarray(images)
    dtype = keras.backend.standardize_dtype(images.dtype)
    if dtype != "uint8":
        raise ValueError(
            f"scale_pixels takes uint8 pixels 0..255 and the images are {dtype}; if "
            "they are scaled to [-1, 1] already, use them as they are."
        )
    if isinstance(images, np.ndarray):
        return images.astype("float32") / 127.5 - 1.0
    return keras.ops.cast(images, "float32") / 127.5 - 1.0


def as_floats(images):
    """Returns images as float32 in [-1, 1], whether they are that or uint8 pixels.

    Args:
        images: NumPy array of floats in [-1, 1], or of uint8 pixels.
    """
    images = np.asarray(images)
    return scale_pixels(images) if images.dtype == "uint8" else images.astype("float32")


def whole_pixels(images):
    """Returns images in [-1, 1] as the nearest uint8 pixels; undoes `scale_pixels`.

    Args:
        images: NumPy array of floats; what is out of range is clipped.
    """
    return np.clip(np.rint((images + 1.0) * 127.5), 0, 255).astype("uint8")
