"""Images in NumPy arrays, as an .npz file holds them."""

import dataclasses
import zipfile
import zlib
from pathlib import Path

import numpy as np

from widenet_keras.data.sources import SPLITS, Source, served
from widenet_keras.files.archives import check_arrays, unpacked_size
from widenet_keras.utils.memory import MAX_MEMORY, weight_of
from widenet_keras.utils.plain_errors import first_line


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class ArraySource(Source):
    """Images in memory.

    Attributes:
        images: (count, height, width, C) uint8.
        labels: (count,) int64.
    """

    images: np.ndarray
    labels: np.ndarray


class _TooLarge(Exception):
    """An archive that unpacks to far more than it weighs."""


def open_arrays(name: str, path: Path, split: str) -> ArraySource:
    """Returns the images of an .npz file.

    Args:
        name: What the user called the file.
        path: `Path` of it.
        split: "train", "validation" or "test".

    Raises:
        ValueError: If the file cannot be read or arrays are missing or do not fit.
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
    labels = {key: a for key, a in arrays.items() if key[0] == "y" and a.size}
    labels = {key: _checked_labels(name, key, array) for key, array in labels.items()}
    if len(images) != len(labels.get(f"y_{part}", ())):
        raise ValueError(
            f"{name}: x_{part} has {len(images)} images and y_{part} has "
            f"{len(arrays[f'y_{part}'])} labels; give one label per image."
        )
    # Over all parts, so that every part has the same classes.
    classes = 1 + max(int(array.max()) for array in labels.values())
    height, width, channels = images.shape[1:]
    return ArraySource(
        name=name,
        kind="arrays",
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
