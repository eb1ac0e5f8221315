"""Checks of a `tf.data` set: of its spec at once, of its batches as they come."""

import keras
import numpy as np
import tensorflow as tf

from widenet_keras.data.pixels import FARTHEST
from widenet_keras.models.image_checks import NO_NUMBERS, check_images, check_labels
from widenet_keras.training.batch_forms import (
    NO_WEIGHTS,
    images_labels_weights,
    no_labels,
)


def checked_dataset(dataset, config, kind, needs_labels):
    """Returns a data set of (images[, labels[, weights]]) that checks its batches.

    Args:
        dataset: What has an `element_spec` of batches; one that is spread over the
            devices of a strategy is returned as it is.
        config: `WideNetConfig` of the model.
        kind: Which labels are right, as for `check_labels`.
        needs_labels: Whether images without labels are a mistake.

    Raises:
        ValueError: If its spec does not fit; one line says what and why.
    """
    images, labels, _ = images_labels_weights(dataset.element_spec)
    if not hasattr(images, "shape"):
        # Each part of what is spread over devices has a spec of its own.
        return dataset
    if images.shape.rank is not None:
        check_images(images, config.image_shape)
    if labels is None and needs_labels:
        raise no_labels()
    if labels is not None and labels.shape.rank in (1, 2):
        columns = labels.shape[1:]
        if None not in columns:
            # To NumPy bfloat16 is no number.
            dtype = tf.float32 if labels.dtype.is_floating else labels.dtype
            likeness = np.zeros((1, *columns), dtype.as_numpy_dtype)
            check_labels(likeness, config.num_classes, kind)
    if not isinstance(dataset, tf.data.Dataset):
        return dataset

    def check(*batch):
        images, labels, weights = images_labels_weights(
            batch[0] if len(batch) == 1 else batch
        )
        checks = _assertions_of_images(images)
        if not images.shape[1:].is_fully_defined():
            checks.append(_assertion_of_shape(images, config.image_shape))
        if labels is not None:
            checks += _assertions_of_labels(labels, config.num_classes, kind)
        if weights is not None and weights.dtype.is_floating:
            checks.append(tf.debugging.check_numerics(weights, NO_WEIGHTS))
        with tf.control_dependencies(checks):
            images = tf.ensure_shape(images, (None, *config.image_shape))
        return keras.utils.pack_x_y_sample_weight(images, labels, weights)

    return dataset.map(check)


def _assertions_of_images(images):
    """Returns operations that fail as `check_values` does; the scale is one image's."""
    low, high = tf.reduce_min(images[:1]), tf.reduce_max(images[:1])
    message = tf.strings.format(
        "The images run from {} to {} and the model takes floats scaled to [-1, 1]; "
        "use widenet_keras.scale_pixels on whole pixels.",
        (low, high),
    )
    no_numbers = (
        "The images have values that are no numbers (NaN or infinite); leave these "
        "images out."
    )
    scaled = tf.logical_or(tf.maximum(-low, high) <= FARTHEST, tf.size(images) == 0)
    return [
        tf.debugging.check_numerics(images, no_numbers),
        tf.debugging.Assert(scaled, [message]),
    ]


def _assertion_of_shape(images, image_shape):
    """Returns an operation that fails for images of another shape."""
    shape = tf.shape(images)
    wanted = ", ".join(map(str, image_shape))
    message = tf.strings.format(
        f"The images have shape {{}} and the model takes (batch, {wanted}); resize "
        "them, or use with_image_size() or a config that fits.",
        (shape,),
    )
    fits = tf.size(shape) == 4 and tf.reduce_all(shape[1:] == image_shape)
    return tf.debugging.Assert(fits, [message])


def _assertions_of_labels(labels, num_classes, kind):
    """Returns operations that fail for values that `check_labels` refuses."""
    floats, shape = labels.dtype.is_floating, labels.shape
    if labels.dtype.is_bool:
        return []
    if labels.dtype.is_integer:
        # Bytes hold no 1,000 to compare with.
        labels = tf.cast(labels, "int64")
    if kind is None and shape.rank in (1, 2) and None not in shape[1:]:
        kind = "shares" if shape[1:].num_elements() > 1 else "classes"
    low, high = tf.reduce_min(labels), tf.reduce_max(labels)
    # Comparisons of every value, which NaN fails; those of the extremes it may pass.
    if kind == "classes" or (kind is None and not floats):
        fits = (labels >= 0) & (labels < num_classes)
        line = (
            f"The labels run from {{}} to {{}} and the model has num_classes="
            f"{num_classes}; labels must be 0 to {num_classes - 1}."
        )
    elif kind in ("shares", "yes or no"):
        fits = (labels >= 0) & (labels <= 1)
        line = (
            "The labels run from {} to {} and the loss takes 0 to 1 in the column of "
            "each class; scale them, or use a loss for whole numbers."
        )
    else:
        return [tf.debugging.check_numerics(labels, NO_NUMBERS)] if floats else []
    message = tf.strings.format(line, (low, high))
    checks = [tf.debugging.Assert(tf.reduce_all(fits), [message])]
    if floats and kind == "classes":
        whole = tf.reduce_all(labels == tf.round(labels))
        line = f"number the classes from 0 to {num_classes - 1}."
        line = f"The labels must be whole numbers and not all are; {line}"
        checks.append(tf.debugging.Assert(whole, [line]))
    return checks
