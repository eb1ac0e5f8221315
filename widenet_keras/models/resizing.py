"""Resizing of images with NumPy or Keras: as TensorFlow does, and as Pillow does."""

import functools

import numpy as np


def resized(images, size, interpolation="bilinear", antialias=False):
    """Returns images at another size, as whole pixels.

    Args:
        images: uint8 (..., height, width, C).
        size: Side of the result, pixels.
        interpolation: "bilinear", "bicubic" or "lanczos".
        antialias: Whether a smaller image averages all pixels that become one.

    Returns:
        uint8 (..., size, size, C).
    """
    if images.shape[-3:-1] == (size, size):
        return images
    pixels = images.astype("float32")
    return whole(interpolated(pixels, size, interpolation, antialias)).astype("uint8")


def evaluated(images, size, preprocessing):
    """Returns what evaluation sees of an image or of each of many.

    Args:
        images: uint8 (..., height, width, C).
        size: As for `resized`.
        preprocessing: `Preprocessing`.

    Returns:
        uint8 (..., size, size, C).
    """
    how = preprocessing.interpolation, preprocessing.antialias
    return resized(preprocessing.cut(images), size, *how)


def interpolated(
    pixels, size, interpolation="bilinear", antialias=False, ops=np, product=None
):
    """Returns images at another size.

    Plain bilinear images are in the arithmetic of `tf.image.resize`; others have
    whole pixels between columns and rows, as those of Pillow.

    Args:
        pixels: float32 (..., height, width, C), 0 to 255.
        size: As for `resized`.
        interpolation: As for `resized`.
        antialias: As for `resized`.
        ops: `numpy`, or `keras.ops` for its tensors.
        product: Function of tensors (..., N) and (N, size) to (..., size) in full
            float32; None for NumPy's.

    Returns:
        float32 (..., size, size, C).
    """
    product = product or functools.partial(np.tensordot, axes=1)
    # Columns first, as TensorFlow and Pillow do, so that all round alike; from 13 on
    # Pillow takes the rows of portraits first, and rounds between them otherwise.
    for axis in (-2, -3):
        old = pixels.shape[axis]
        if old == size:
            continue
        if interpolation == "bilinear" and not antialias:
            pixels = _between(pixels, old, size, axis, ops)
            continue
        weights = ops.array(_weights(old, size, interpolation, antialias))
        pixels = product(ops.swapaxes(pixels, axis, -1), weights)
        pixels = whole(ops.swapaxes(pixels, axis, -1), ops)
    return pixels


def whole(pixels, ops=np):
    """Returns the nearest whole pixels 0 to 255, as floats."""
    return ops.clip(ops.floor(pixels + 0.5), 0, 255)


def _between(images, old, size, axis, ops):
    """Interpolates along one axis; centres of pixels are at halves."""
    scale = np.float32(old) / np.float32(size)
    places = (np.arange(size, dtype="float32") + np.float32(0.5)) * scale
    places -= np.float32(0.5)
    low = np.floor(places)
    part = (places - low).reshape((-1, 1, 1) if axis == -3 else (-1, 1))
    below, above = (
        ops.take(images, np.clip(place, 0, old - 1).astype("int32"), axis)
        for place in (low, np.ceil(places))
    )
    return below + (above - below) * ops.array(part)


def _weights(old, size, interpolation, antialias):
    """Returns what each old pixel of a line adds to each new one, (old, size)."""
    scale = old / size
    # A filter as wide as the new pixels leaves none of the old ones out.
    wide = max(scale, 1.0) if antialias else 1.0
    centres = (np.arange(size) + 0.5) * scale
    places = np.arange(old)[:, None] + 0.5
    weights = _FILTERS[interpolation]((places - centres) / wide)
    return (weights / weights.sum(axis=0)).astype("float32")


def _triangle(x):
    return np.maximum(1 - np.abs(x), 0)


def _cubic(x):
    """Keys' cubic (1981) with a = -0.5, as TensorFlow and Pillow have it."""
    x = np.abs(x)
    near, far = (1.5 * x - 2.5) * x * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0))


def _lanczos(x):
    return np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0)


_FILTERS = {"bilinear": _triangle, "bicubic": _cubic, "lanczos": _lanczos}
