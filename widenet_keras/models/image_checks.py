"""Checks of what goes into a model, each with one clear line."""

import keras
import numpy as np

from widenet_keras.utils.checks import check_integer

# Said of labels here and inside graphs, see `data_checks`.
NO_NUMBERS = "The labels have values that are no numbers; leave them out."


def check_images(images, image_shape):
    """Raises `ValueError` unless `images` fit the model.

    Args:
        images: Anything with `shape` and `dtype`: (B, height, width, channels)
            float.
        image_shape: (height, width, channels) that the model takes.
    """
    shape, dtype = getattr(images, "shape", None), getattr(images, "dtype", None)
    wanted = "(batch, " + ", ".join(map(str, image_shape)) + ")"
    if shape is None or dtype is None:
        raise ValueError(
            f"The images are of type {type(images).__name__} and the model takes one "
            f"array or tensor {wanted}; numpy.stack makes one of a list."
        )
    shape = tuple(shape)
    fits = len(shape) == 4 and all(
        size in (None, want) for size, want in zip(shape[1:], image_shape, strict=True)
    )
    if not fits:
        advice = "resize them, or use with_image_size() or a config that fits"
        if shape == tuple(image_shape):
            advice = "add a batch axis: images[None], or batch() of a data set"
        raise ValueError(
            f"The images have shape {shape} and the model takes {wanted}; {advice}."
        )
    dtype = dtype_name(dtype)
    if "float" not in dtype:
        raise ValueError(
            f"The images are {dtype} and the model takes floats scaled to [-1, 1]; "
            "use widenet_keras.scale_pixels(images)."
        )


def batches_of(owner, images, image_shape, batch_size):
    """Yields where each batch of some images begins, and the batch.

    Args:
        owner: Name that starts the message of an error.
        images: As for `check_images`.
        image_shape: As for `check_images`.
        batch_size: Images in a batch.

    Raises:
        ValueError: If the images do not fit, or there are none.
    """
    check_images(images, image_shape)
    check_integer(owner, "batch_size", batch_size, 1)
    if len(images) == 0:
        raise ValueError(f"{owner}: there is no image; give one or more.")
    for start in range(0, len(images), batch_size):
        yield start, images[start : start + batch_size]


def dtype_name(dtype) -> str:
    """Returns the name of a dtype of any backend or of NumPy."""
    try:
        return keras.backend.standardize_dtype(dtype)
    except ValueError:
        # Keras has no text, objects and the like.
        return str(dtype)


def check_labels(labels, num_classes, kind=None):
    """Raises `ValueError` unless labels are what the loss takes.

    Args:
        labels: NumPy array: whole numbers (B,) or (B, 1), or (B, classes).
        num_classes: Number of classes.
        kind: "classes" for whole numbers; "shares" for a column per class that adds up
            to 1, though each is only seen to be from 0 to 1; "yes or no" for a column
            per class from 0 to 1; "any" for any numbers; None for classes or shares.
    """
    if labels.size == 0:
        return
    if labels.dtype.kind not in "iufb":
        raise ValueError(
            f"The labels are {labels.dtype} and must be numbers; number the classes "
            f"from 0 to {num_classes - 1}."
        )
    if kind != "any" and labels.ndim not in (1, 2):
        raise ValueError(
            f"The labels have shape {labels.shape}; give one number per image, or one "
            "column per class."
        )
    columns = labels.shape[1] if labels.ndim == 2 and labels.shape[1] > 1 else 0
    if kind is None:
        kind = "shares" if columns else "classes"
    if kind == "classes":
        _check_classes(labels, num_classes, columns)
        return
    if kind != "any" and max(columns, 1) != num_classes:
        found = f"have {columns} columns" if columns else "are one number per image"
        advice = "give one column per class"
        if not columns and kind == "shares":
            advice = "use loss='sparse_categorical_crossentropy', or " + advice
        raise ValueError(
            f"The labels {found} and the model has num_classes={num_classes}; {advice}."
        )
    low, high = labels.min(), labels.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError(NO_NUMBERS)
    if kind != "any" and not (low >= 0 and high <= 1):
        raise ValueError(
            f"The labels run from {low:g} to {high:g} and the loss takes 0 to 1 in the "
            "column of each class; scale them, or use a loss for whole numbers."
        )


def _check_classes(labels, num_classes, columns):
    if columns:
        raise ValueError(
            f"The labels have {columns} columns and the loss takes one whole number "
            "per image; use loss='categorical_crossentropy', or the labels' argmax."
        )
    low, high = labels.min(), labels.max()
    # Written so that NaN fails as well.
    if not (low >= 0 and high < num_classes):
        raise ValueError(
            f"The labels run from {low} to {high} and the model has "
            f"num_classes={num_classes}; labels must be 0 to {num_classes - 1}."
        )
    if labels.dtype.kind == "f" and (odd := labels[labels != np.rint(labels)]).size:
        raise ValueError(
            f"The labels must be whole numbers and {odd.flat[0]:g} is none; number the "
            f"classes from 0 to {num_classes - 1}."
        )
