"""Image files as the pixels that models are given, in the crop of evaluation."""

import importlib
import io
from pathlib import Path

import numpy as np

from widenet_keras.data.geometry import EVALUATION_CROP, SMALLEST_CROPPED
from widenet_keras.data.requirements import has_tensorflow, require_tensorflow
from widenet_keras.utils.install import install_command
from widenet_keras.utils.plain_errors import first_line

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif")


def image_files(path):
    """Returns the image files at a path: itself, or those of a folder and below.

    Raises:
        ValueError: If there are none.
    """
    path = Path(path)
    if not path.exists():
        raise ValueError(f"{path} does not exist; give an image or a folder of images.")
    if path.is_file():
        return [path]
    found = sorted(
        each
        for each in path.rglob("*")
        if each.is_file() and each.suffix.lower() in SUFFIXES
    )
    if not found:
        raise ValueError(f"{path} has no images ({', '.join(SUFFIXES)}); give some.")
    return found


def read_pixels(path, image_shape):
    """Returns an image file as pixels, uint8 (height, width, channels).

    With TensorFlow it is the code of evaluation itself; without, Pillow reads the
    image and the same crop and bilinear resize are computed in NumPy.

    Args:
        path: The file.
        image_shape: (height, width, channels) that the model takes.

    Raises:
        ValueError: If the image cannot be read; one line names it.
        ImportError: If neither TensorFlow nor Pillow is installed.
    """
    size, _, channels = image_shape
    if channels not in (1, 3):
        raise ValueError(
            f"The model takes {channels} channels and image files have 1 or 3; use "
            "widenet_keras.open_predictor(path).logits(images)."
        )
    content = Path(path).read_bytes()
    read = _with_tensorflow if has_tensorflow() else _with_pillow
    try:
        return read(content, size, channels)
    except ImportError:
        raise
    # Decoders raise classes of their own for what is in a file.
    except Exception as error:
        raise ValueError(
            f"The image {path} cannot be read ({first_line(error)}); replace or delete "
            "it."
        ) from error


def _with_tensorflow(content, size, channels):
    tf = require_tensorflow("Images are")
    decoding = importlib.import_module("widenet_keras.data.pipeline.decoding")
    layout = importlib.import_module("widenet_keras.data.batches").Layout(
        size, channels, 1, 1
    )
    with tf.device("CPU"):
        return decoding.evaluation_pixels(tf.constant(content), layout).numpy()


def _with_pillow(content, size, channels):
    try:
        pillow = importlib.import_module("PIL.Image")
    except ImportError:
        raise ImportError(
            "Images are read with TensorFlow or Pillow, and neither is installed; run "
            f"{install_command('images')}."
        ) from None
    with pillow.open(io.BytesIO(content)) as image:
        if image.mode.startswith("I;16"):
            # Converting would cut off what is above 255.
            image = pillow.fromarray((np.asarray(image) >> 8).astype("uint8"))
        elif image.mode in ("I", "F"):
            raise ValueError(f"pixels of mode {image.mode}, not of 8 or 16 bits")
        pixels = np.asarray(image.convert("L" if channels == 1 else "RGB"))
    pixels = pixels.reshape(*pixels.shape[:2], channels)
    if size >= SMALLEST_CROPPED:
        pixels = _middle(pixels)
    return (_resized(pixels.astype("float32"), size) + 0.5).astype("uint8")


def _middle(pixels):
    """Returns the square in the middle, as evaluation takes it."""
    height, width = pixels.shape[:2]
    side = max(1, round(EVALUATION_CROP * min(height, width)))
    top, left = (height - side) // 2, (width - side) // 2
    return pixels[top : top + side, left : left + side]


def _resized(pixels, size):
    """Returns pixels at (size, size), bilinear as `tf.image.resize`."""
    for axis in (0, 1):
        length = pixels.shape[axis]
        at = (np.arange(size, dtype="float32") + 0.5) * (length / size) - 0.5
        low = np.floor(at)
        shape = [1, 1, 1]
        shape[axis] = size
        part = (at - low).astype("float32").reshape(shape)
        below, above = (
            np.take(pixels, np.clip(index, 0, length - 1).astype(int), axis=axis)
            for index in (low, low + 1)
        )
        pixels = below + (above - below) * part
    return pixels
