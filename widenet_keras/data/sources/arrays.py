"""Images in NumPy arrays, as an .npz file holds them."""

import dataclasses
import functools
import zipfile
import zlib
from pathlib import Path
from typing import ClassVar

import numpy as np

from widenet_keras.data.colours import with_channels
from widenet_keras.data.source import Source
from widenet_keras.data.splits import SPLITS, served
from widenet_keras.files.archives import check_arrays, unpacked_size
from widenet_keras.models.resizing import evaluated
from widenet_keras.utils.memory import MAX_MEMORY, weight_of
from widenet_keras.utils.plain_errors import first_line, is_of_the_system

# Images that grow by no more than this are resized once for all epochs.
_MOST_GROWTH = 2.0
# Pixels and channels that are resized at a time, as float32.
_AT_A_TIME = 2**22
# More are ids, of which each would get a name and a row of the last layer.
_MOST_CLASSES = 2**20


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class ArraySource(Source):
    """Images in memory.

    Attributes:
        images: (count, height, width, C) uint8.
    """

    images: np.ndarray
    in_memory: ClassVar[bool] = True

    def image(self, row):
        """Returns an image; see `Source`."""
        return self.images[row]

    def pick(self, rows):
        """Returns a source of some of the images; see `Source`."""
        picked = {name: getattr(self, name)[rows] for name in ("images", "labels")}
        return dataclasses.replace(self, count=len(rows), **picked)

    def reader(self, layout, broken):
        """Returns what resizes images once for all epochs."""
        return InMemory(self, layout)

    def tensorflow_reader(self):
        """Returns what has TensorFlow hold the images."""
        from widenet_keras.data.pipeline.readers import ArrayReader

        return ArrayReader(self)


class InMemory:
    """Reads the images of an `ArraySource`.

    Args:
        source: `ArraySource`.
        layout: `Layout` of the batches.
    """

    def __init__(self, source, layout):
        self.images = source.images
        self.labels = source.targets
        self.layout = layout
        self.count = source.count

    @functools.cached_property
    def _taken(self):
        return _resized_once(self.images, self.layout.image_size, self._evaluated)

    def training(self, rows, whole):
        """Returns images and labels to crop; images as they are if `whole`."""
        if not whole:
            return self.evaluation(rows)
        # A crop of "inception" is drawn before it is resized.
        images = with_channels(self.images[rows], self.layout.channels)
        return images, self.labels[rows]

    def evaluation(self, rows):
        """Returns what evaluation sees of some images, and their labels."""
        images = self._taken[rows]
        if images.shape[1:] != self.layout.image_shape:
            images = self._evaluated(images, self.layout.image_size)
        return images, self.labels[rows]

    def _evaluated(self, images, size):
        # Grey first, as all readers: rounding to bytes comes after each.
        images = with_channels(images, self.layout.channels)
        return evaluated(images, size, self.layout.preprocessing)


def _resized_once(images, size, function):
    """Returns images in the size of the batches; as they are if that is much larger.

    Args:
        images: uint8 (count, height, width, C).
        size: Side of the images of the batches, pixels.
        function: Resizes uint8 images (B, height, width, C) to a side in pixels.

    Returns:
        uint8 (count, height, width, C), or of as many channels as the function gives.
    """
    if size * size > _MOST_GROWTH * images.shape[1] * images.shape[2]:
        return images
    one = function(images[:1], size)
    if np.shares_memory(one, images):
        return function(images, size)
    done = np.empty((len(images), size, size, one.shape[3]), "uint8")
    step = max(1, _AT_A_TIME // max(images[0].size, done[0].size))
    for start in range(0, len(images), step):
        done[start : start + step] = function(images[start : start + step], size)
    return done


class _TooLarge(Exception):
    """An archive that unpacks to far more than it weighs."""


def opened(data, split: str, data_dir) -> ArraySource | None:
    """Returns the images of an .npz file, or None if it is none; see `SOURCES`."""
    path = Path(str(data)).expanduser()
    if path.suffix != ".npz" or not path.exists():
        return None
    return _open_arrays(str(data), path, split)


def _open_arrays(name, path, split):
    """Returns the `ArraySource` of an .npz file.

    Args:
        name: What the user called the file.
        path: `Path` of it.
        split: "train", "validation" or "test".

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it is no .npz file, or arrays are missing or do not fit.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = unpacked_size(archive)
            check_arrays(archive)
        if unpacked > MAX_MEMORY + weight_of(path):
            raise _TooLarge
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files if key[:2] in ("x_", "y_")}
    except _TooLarge:
        raise ValueError(
            f"{name} would unpack from {weight_of(path):,} to {unpacked:,} bytes; if "
            "it is yours, write it with numpy.savez, which packs nothing."
        ) from None
    except (
        EOFError,
        MemoryError,
        NotImplementedError,
        OSError,
        RuntimeError,
        TypeError,
        ValueError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        if is_of_the_system(error):
            raise
        reason = first_line(error)
        raise ValueError(
            f"{name} cannot be read as an .npz file ({reason}); write it with "
            "numpy.savez_compressed(path, x_train=..., y_train=..., x_test=..., "
            "y_test=...)."
        ) from None
    parts = [part for part in SPLITS[split] if f"x_{part}" in arrays]
    if not parts or any(f"y_{part}" not in arrays for part in parts):
        raise ValueError(
            f"{name} has {', '.join(sorted(arrays)) or 'no x_ and y_ arrays'} and no "
            f"x_{SPLITS[split][-1]} and y_{SPLITS[split][-1]}; both are needed for "
            f"{split!r}."
        )
    part = parts[0]
    images = _checked_images(name, f"x_{part}", arrays[f"x_{part}"])
    keys = {f"y_{part}" for parts in SPLITS.values() for part in parts}
    labels = {key: a for key, a in arrays.items() if key in keys and a.size}
    labels = {key: _checked_labels(name, key, array) for key, array in labels.items()}
    if len(images) != len(labels.get(f"y_{part}", ())):
        raise ValueError(
            f"{name}: x_{part} has {len(images)} images and y_{part} has "
            f"{len(arrays[f'y_{part}'])} labels; give one label per image."
        )
    # Over all parts, so that every part has the same classes.
    classes = 1 + max(int(array.max()) for array in labels.values())
    if classes > _MOST_CLASSES:
        raise ValueError(
            f"{name} has a label of {classes - 1}; number the classes from 0, at most "
            f"{_MOST_CLASSES:,} of them."
        )
    height, width, channels = images.shape[1:]
    return ArraySource(
        name=name,
        count=len(images),
        class_names=tuple(str(index) for index in range(classes)),
        description=(
            f"{len(images)} images {height}x{width}x{channels} of {classes} classes in "
            f"x_{part} of {path}{served(split, part)}"
        ),
        named=False,
        images=images,
        labels=labels[f"y_{part}"],
    )


def _checked_images(name, key, images):
    """Returns images with a channel axis."""
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or not images.size:
        raise ValueError(
            f"{name}: {key} is {images.dtype} of shape {images.shape} and must be "
            "uint8 (N, height, width) or (N, height, width, channels), pixels 0 to 255."
        )
    images = images[..., None] if images.ndim == 3 else images
    if images.shape[-1] not in (1, 3):
        raise ValueError(
            f"{name}: {key} has {images.shape[-1]} channels; give images with 1 or 3."
        )
    return images


def _checked_labels(name, key, labels):
    """Returns labels as (N,) int64."""
    flat = labels.reshape(-1)
    if (
        labels.ndim == 0
        or flat.size != len(labels)
        or labels.dtype.kind not in "iu"
        or flat.min() < 0
    ):
        raise ValueError(
            f"{name}: {key} is {labels.dtype} of shape {labels.shape} and must be "
            "whole numbers from 0, one per image."
        )
    return flat.astype("int64")
