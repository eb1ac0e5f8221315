"""Encoded images as pixels, read by Pillow: the same as TensorFlow's, to the bit."""

import importlib
import io

import numpy as np

from widenet_keras.data.colours import on_ground, with_channels
from widenet_keras.data.image_files import FORMATS
from widenet_keras.data.orientation import orientation_of, upright
from widenet_keras.utils.install import install_command


def require_pillow(subject):
    """Returns the module `PIL.Image`.

    Args:
        subject: What needs it, with its verb, for instance "These images are".

    Raises:
        ImportError: If Pillow is not installed; one line says what to install.
    """
    try:
        return importlib.import_module("PIL.Image")
    except ImportError:
        raise ImportError(
            f"{subject} read with Pillow, which is not installed; run "
            f"{install_command('images')}."
        ) from None


def decoded(content, channels):
    """Returns an image as it is seen: upright, on white, the first of several.

    Args:
        content: Bytes of the file.
        channels: 1 or 3.

    Returns:
        uint8 (height, width, channels).

    Raises:
        ValueError: If it is no image of a format that is read.
        ImportError: If Pillow is not installed.
    """
    with _opened(content) as image:
        # Before the pixels: what stands behind them in a PNG is not looked for.
        orientation = orientation_of(image.info.get("exif", b""))
        pixels = with_channels(_colours(image), channels)
    return upright(pixels, orientation)


def stored(content):
    """Returns an image as `decoded` does, in colour, but not turned upright."""
    with _opened(content) as image:
        return with_channels(_colours(image), 3)


def _opened(content):
    pillow = require_pillow("These images are")
    try:
        return pillow.open(io.BytesIO(content), formats=FORMATS)
    except pillow.UnidentifiedImageError:
        raise ValueError(f"it is none of {', '.join(FORMATS)}") from None


def _colours(image):
    """Returns the pixels of an open image, uint8 (height, width, 1 or 3)."""
    if image.mode.startswith("I;16"):
        # Converting would cut off what is above 255.
        deep = np.asarray(image)
        grey = (deep >> 8).astype("uint8")[..., None]
        hidden = image.info.get("transparency")
        if hidden is None:
            return grey
        alpha = np.where(deep == hidden, 0, 255).astype("uint8")
        return on_ground(np.dstack([grey, grey, grey, alpha]))
    if image.mode in ("I", "F"):
        raise ValueError(f"pixels of mode {image.mode}, not of 8 or 16 bits")
    if image.has_transparency_data:
        return on_ground(np.asarray(image.convert("RGBA")))
    if image.mode == "CMYK":
        # Pillow inverts the inks of every JPEG; only Adobe's programs store them so.
        inks = np.asarray(image).astype("int32")
        light = 255 - inks if "adobe" in image.info else inks
        return (light[..., :3] * light[..., 3:] // 255).astype("uint8")
    return np.asarray(image.convert("RGB"))
