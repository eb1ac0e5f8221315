"""Colours of images: what shows through transparent parts, and grey."""

import numpy as np

from widenet_keras.utils.grey import GREY_WEIGHTS

# Transparent parts show white, as on a page: what is drawn in black on nothing stays
# visible, and what a program left under them does not.
GROUND = 255


def on_ground(images):
    """Returns images without their transparency.

    Args:
        images: uint8 (..., 4), the last channel 0 where nothing is seen.

    Returns:
        uint8 (..., 3).
    """
    alpha = images[..., 3:].astype("int32")
    seen = images[..., :3] * alpha + GROUND * (255 - alpha)
    return ((seen + 127) // 255).astype("uint8")


def grey(images):
    """Returns colour images as grey.

    Args:
        images: uint8 (..., 3).

    Returns:
        uint8 (..., 1).
    """
    sums = images.astype("int32") @ np.array(GREY_WEIGHTS, "int32")
    return ((sums + 32768) >> 16)[..., None].astype("uint8")


def with_channels(images, channels):
    """Returns uint8 images (..., C) as grey or colour."""
    if images.shape[-1] == channels:
        return images
    return grey(images) if channels == 1 else np.repeat(images, 3, axis=-1)
