"""Some images with what a model says of them, small enough to stand in a page."""

import base64
import struct
import zlib

import keras
import numpy as np

from widenet_keras.data.pixels import whole_pixels
from widenet_keras.reports.looked_at import attention_content, routing_content
from widenet_keras.utils import numerics
from widenet_keras.utils.softmax import probabilities

# How many pixels of a side are kept.
_LONGEST_SIDE = 160
_BATCH = 32
_TOP = 5


def sample_content(model, images, labels=None, count=16):
    """Returns what a page shows of some images, a dict that JSON can hold.

    With labels, a quarter are mistakes of the model if it makes so many, the most
    confident first; the others are evenly spaced.

    Args:
        model: An `ImageClassifier`.
        images: NumPy array (B, height, width, channels) in [-1, 1].
        labels: (B,) the class of each image, or None.
        count: How many of the images to show, at most.
    """
    images = np.asarray(images)
    probabilities = _probabilities(model, images)
    chosen, mistakes = _chosen(probabilities, labels, count)
    images, probabilities = images[chosen], probabilities[chosen]
    best = np.argsort(-probabilities, axis=1, kind="stable")[:, :_TOP]
    shown = [
        {
            "png": png_uri(_smaller(whole_pixels(image))),
            "label": None if labels is None else int(labels[place]),
            "top": [[int(each), round(float(row[each]), 4)] for each in of_image],
        }
        for image, place, row, of_image in zip(
            images, chosen, probabilities, best, strict=True
        )
    ]
    config = model.config
    return {
        "images": shown,
        "mistakes": mistakes,
        "size": list(config.image_shape[:2]),
        "grid": list(config.grid),
        "class_token": config.class_token,
        "first": config.leading_tokens,
        "routing": routing_content(model, images) if config.routed_steps else None,
        "attention": attention_content(model, images),
    }


def png_uri(pixels):
    """Returns an image as the address of a PNG that is in the address itself.

    Args:
        pixels: NumPy array (height, width, 1 or 3) uint8.
    """
    height, width, channels = pixels.shape
    # Each row starts with how it is coded: 0, as it is.
    rows = np.zeros((height, 1 + width * channels), "uint8")
    rows[:, 1:] = pixels.reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 8, 2 * (channels == 3), 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n" + b"".join(
        _chunk(name, data)
        for name, data in (
            (b"IHDR", header),
            (b"IDAT", zlib.compress(rows.tobytes(), 9)),
            (b"IEND", b""),
        )
    )
    return f"data:image/png;base64,{base64.b64encode(content).decode('ascii')}"


def _chunk(name, data):
    check = struct.pack(">I", zlib.crc32(name + data))
    return struct.pack(">I", len(data)) + name + data + check


def _smaller(pixels):
    """Returns an image whose sides are at most the longest, by means of squares."""
    factor = -(-max(pixels.shape[:2]) // _LONGEST_SIDE)
    height, width = (side // factor for side in pixels.shape[:2])
    if factor > 1:
        pixels = pixels[: height * factor, : width * factor]
        squares = pixels.reshape(height, factor, width, factor, -1)
        pixels = np.rint(squares.mean(axis=(1, 3))).astype("uint8")
    if pixels.shape[-1] in (1, 3):
        return pixels
    # Only grey and red, green, blue are known to PNG.
    return np.rint(pixels.mean(axis=-1, keepdims=True)).astype("uint8")


def _probabilities(model, images):
    """Returns (B, classes) float."""
    found = []
    for first in range(0, len(images), _BATCH):
        with numerics.without_gradients():
            logits = model(images[first : first + _BATCH], training=False)
        logits = keras.ops.convert_to_numpy(keras.ops.cast(logits, "float32"))
        found.append(probabilities(logits))
    return np.concatenate(found)


def _chosen(probabilities, labels, count):
    """Returns the places of the images to show, and how many of them are mistakes."""
    every, wrong = np.arange(len(probabilities)), np.empty(0, int)
    if labels is not None:
        predicted = probabilities.argmax(axis=1)
        wrong = every[predicted != labels]
        surest = np.argsort(-probabilities.max(axis=1)[wrong], kind="stable")
        wrong = wrong[surest][: count // 4]
    others = np.setdiff1d(every, wrong)
    fits = min(count - len(wrong), len(others))
    others = others[np.linspace(0, len(others) - 1, fits).astype(int)]
    return [*others.tolist(), *wrong.tolist()], len(wrong)
