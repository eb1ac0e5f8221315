"""Pixels: from bytes to the floats that the models take."""

import math

import keras
import numpy as np

from widenet_keras.models.preprocessing import scaled, unscaled
from widenet_keras.utils.types import Tensor

# Images that are scaled in some usual way stay below this; pixels 0 to 255 do not.
FARTHEST = 16.0


def scale_pixels(images: Tensor) -> Tensor:
    """Returns whole pixels 0..255 as float32 in [-1, 1].

    Args:
        images: NumPy array or tensor of integers, any shape.

    Raises:
        ValueError: If the images are no integers, since they may be scaled already, or
            those of an array not from 0 to 255; the values of tensors are not looked
            at.
    """
    if not hasattr(images, "dtype"):
        images = np.asarray(images)
    dtype = keras.backend.standardize_dtype(images.dtype)
    if "int" not in dtype:
        raise ValueError(
            f"scale_pixels takes whole pixels 0..255 and the images are {dtype}; if "
            "they are scaled to [-1, 1] already, use them as they are."
        )
    if isinstance(images, np.ndarray) and dtype != "uint8" and images.size:
        low, high = images.min(), images.max()
        if low < 0 or high > 255:
            raise ValueError(
                f"The pixels run from {low} to {high} and must be 0 to 255; scale them."
            )
    if isinstance(images, np.ndarray):
        return scaled(images.astype("float32"))
    return scaled(keras.ops.cast(images, "float32"))


def as_floats(images):
    """Returns images as float32 in [-1, 1], whether they are that or whole pixels.

    Args:
        images: NumPy array of floats in [-1, 1], or of integers 0..255.

    Raises:
        ValueError: If they are far from both, or no numbers.
    """
    images = np.asarray(images)
    if images.dtype.kind in "iu":
        return scale_pixels(images)
    if images.dtype.kind != "f":
        raise ValueError(
            f"The images are {images.dtype} and must be floats in [-1, 1] or whole "
            "pixels 0 to 255."
        )
    check_values(images)
    return images.astype("float32")


def check_values(images):
    """Raises `ValueError` for an array of numbers that no scaled image has.

    Args:
        images: NumPy array or tensor of floats; what else it may be is left alone. Of a
            tensor only what is compared leaves its device.
    """
    check_extremes(keras.ops.convert_to_numpy(extremes_of(images)))


def extremes_of(images):
    """Returns the smallest and the largest number, (2,), on the device of the images.

    NaN if the images hold what is no number; zeros if there are no images, and of what
    is neither array nor tensor.

    Args:
        images: NumPy array or tensor of floats.
    """
    is_array = isinstance(images, np.ndarray)
    if not (is_array or keras.ops.is_tensor(images)) or not math.prod(images.shape):
        return np.zeros(2)
    if is_array:
        return np.array([images.min(), images.max()])
    found = keras.ops.stack([keras.ops.min(images), keras.ops.max(images)])
    # TensorFlow's smallest and largest number may pass over one that is none.
    finite = keras.ops.all(keras.ops.isfinite(images))
    return keras.ops.where(finite, found, math.nan)


def check_extremes(extremes):
    """Raises `ValueError` for the `extremes_of` images that are not scaled.

    Args:
        extremes: NumPy array of two.
    """
    low, high = map(float, extremes)
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError(
            "The images have values that are no numbers (NaN or infinite); leave these "
            "images out."
        )
    if max(-low, high) > FARTHEST:
        raise ValueError(
            f"The images run from {low:g} to {high:g} and the model takes floats "
            "scaled to [-1, 1]; use widenet_keras.scale_pixels on whole pixels."
        )


def whole_pixels(images):
    """Returns images in [-1, 1] as the nearest uint8 pixels; undoes `scale_pixels`.

    Args:
        images: NumPy array of floats; what is out of range is clipped.
    """
    return np.clip(np.rint(unscaled(images)), 0, 255).astype("uint8")
