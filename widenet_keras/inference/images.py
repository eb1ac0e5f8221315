"""Image files as the pixels that models are given, in the crop of evaluation."""

import os
from pathlib import Path

from widenet_keras.data.broken_images import reason_of
from widenet_keras.data.image_files import (
    SUFFIXES,
    is_hidden,
    is_image,
    kinds_of,
    say_left_out,
)
from widenet_keras.data.layout import Layout
from widenet_keras.data.pillow_images import decoded
from widenet_keras.data.requirements import has_tensorflow
from widenet_keras.models.preprocessing import usual_preprocessing
from widenet_keras.models.resizing import evaluated


def image_files(path):
    """Returns the image files at a path: itself, or those of a folder and below.

    Raises:
        ValueError: If there are none.
        OSError: If a folder cannot be read.
    """
    path = Path(path)
    if not path.exists():
        raise ValueError(f"{path} does not exist; give an image or a folder of images.")
    if path.is_file():
        return [path]
    found, others = [], []
    for folder, folders, names in os.walk(path, onerror=_raise):
        folders[:] = [name for name in folders if not is_hidden(name)]
        for name in names:
            # Links to nothing, and what is no file, are no images.
            if not is_hidden(name) and Path(folder, name).is_file():
                (found if is_image(name) else others).append(Path(folder, name))
    names = [each.name for each in others]
    if not found:
        holds = f" and holds {kinds_of(names)}" if names else ""
        raise ValueError(
            f"{path} has no images ({', '.join(SUFFIXES)}){holds}; give some."
        )
    say_left_out(path, names)
    return sorted(found)


def _raise(error):
    raise error


def read_pixels(path, image_shape, preprocessing=None):
    """Returns an image file as pixels, uint8 (height, width, channels).

    With TensorFlow it is the code of evaluation itself; without, Pillow reads the
    same pixels, and the same crop and resize are computed in NumPy.

    Args:
        path: The file.
        image_shape: (height, width, channels) that the model takes.
        preprocessing: `Preprocessing` of the model; None for the usual one.

    Raises:
        ValueError: If the image cannot be read; one line names it.
        ImportError: If neither TensorFlow nor Pillow is installed.
    """
    size, _, channels = image_shape
    preprocessing = preprocessing or usual_preprocessing(size)
    if channels not in (1, 3):
        raise ValueError(
            f"The model takes {channels} channels and image files have 1 or 3; use "
            "widenet_keras.open_predictor(path).logits(images)."
        )
    read = _with_tensorflow if has_tensorflow() else _with_pillow
    try:
        return read(Path(path).read_bytes(), size, channels, preprocessing)
    except ImportError:
        raise
    # Decoders raise classes of their own for what is in a file.
    except Exception as error:
        raise ValueError(
            f"The image {path} cannot be read ({reason_of(error)}); replace or delete "
            "it."
        ) from error


def _with_tensorflow(content, size, channels, preprocessing):
    from widenet_keras.data.pipeline.decoding import pixels_of_file

    return pixels_of_file(content, Layout(size, channels, 1, 1, preprocessing))


def _with_pillow(content, size, channels, preprocessing):
    return evaluated(decoded(content, channels), size, preprocessing)
