"""Checks of what goes into a model, each with one clear line."""

import keras


def check_images(images, image_shape):
    """Raises `ValueError` unless `images` fit the model.

    Args:
        images: Anything with `shape` and `dtype`: (B, height, width, channels)
            float. Objects without them are left to Keras.
        image_shape: (height, width, channels) that the model takes.
    """
    shape, dtype = getattr(images, "shape", None), getattr(images, "dtype", None)
    if shape is None or dtype is None:
        return
    wanted = "(batch, " + ", ".join(map(str, image_shape)) + ")"
    shape = tuple(shape)
    fits = len(shape) == 4 and all(
        size in (None, want) for size, want in zip(shape[1:], image_shape, strict=True)
    )
    if not fits:
        raise ValueError(
            f"The images have shape {shape} and the model takes {wanted}; resize "
            "them, or use with_image_size() or a config that fits."
        )
    dtype = keras.backend.standardize_dtype(dtype)
    if "float" not in dtype:
        raise ValueError(
            f"The images are {dtype} and the model takes floats scaled to [-1, 1]; "
            "use widenet_keras.scale_pixels(images)."
        )


def check_labels(labels, num_classes):
    """Raises `ValueError` unless integer labels are classes of the model.

    Args:
        labels: NumPy array of integer labels (B,) or (B, 1), or of class
            probabilities (B, classes).
        num_classes: Number of classes.
    """
    if labels.size == 0:
        return
    if labels.ndim == 2 and labels.shape[1] > 1:
        if labels.shape[1] != num_classes:
            raise ValueError(
                f"The labels have {labels.shape[1]} columns and the model has "
                f"num_classes={num_classes}; give one column per class."
            )
        return
    if labels.dtype.kind not in "iufb":
        raise ValueError(
            f"The labels are {labels.dtype} and must be whole numbers; number the "
            f"classes from 0 to {num_classes - 1}."
        )
    low, high = labels.min(), labels.max()
    # Written so that NaN fails as well.
    if not (low >= 0 and high < num_classes):
        raise ValueError(
            f"The labels run from {low} to {high} and the model has "
            f"num_classes={num_classes}; labels must be 0 to {num_classes - 1}."
        )
