"""Colours of images: what shows through transparent parts, and grey."""

import numpy as np

from widenet_keras.models import preprocessing

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


def with_channels(images, channels):
    """Returns uint8 images (..., C) as grey or colour."""
    if images.shape[-1] == channels:
        return images
    found = preprocessing.with_channels(
        images.astype("float32"), channels, np.concatenate
    )
    return found.astype("uint8")
