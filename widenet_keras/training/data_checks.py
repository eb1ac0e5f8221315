"""Checks of training data before a model sees it, with one clear line each."""

import numbers
import os
import re

import keras
import numpy as np

from widenet_keras.data.pixels import check_values
from widenet_keras.models.image_checks import check_images, check_labels
from widenet_keras.training.batch_forms import as_arrays, images_labels_weights

# What checks inside a graph say, which TensorFlow wraps.
_LINES = (
    re.compile(r"The labels run from .*? labels must be 0 to \d+\."),
    re.compile(r"The images run from .*? on whole pixels\."),
    re.compile(r"The images have values that .*? leave these images out\."),
)
_NO_DATA = (str, bytes, numbers.Number, os.PathLike, set)


def checked_data(data, labels, config, kind=None, needs_labels=True):
    """Checks images and labels and returns data that goes on checking itself.

    Arrays are checked whole, here. Batches of `tf.data`, of a `PyDataset` and
    of a generator are checked as they come; those of a torch `DataLoader` are
    left to the model, which checks the images only.

    Args:
        data: Images, or a data set of batches, as `images_labels_weights` takes them.
        labels: Labels if `data` are images, else None.
        config: `WideNetConfig` of the model.
        kind: Which labels are right, as for `check_labels`.
        needs_labels: Whether images without labels are a mistake, and no image.

    Returns:
        What to hand to Keras in place of `data` and `labels`.

    Raises:
        ValueError: If something does not fit; one line says what and why.
    """
    if hasattr(data, "element_spec"):
        from widenet_keras.training.data_checks_tensorflow import checked_dataset

        return checked_dataset(data, config, kind), labels
    if isinstance(data, keras.utils.PyDataset):
        return _CheckedPyDataset(data, config, kind), labels
    if hasattr(data, "__next__"):
        return (_checked_batch(batch, config, kind) for batch in data), labels
    if data is None or isinstance(data, _NO_DATA):
        raise ValueError(
            f"The images are {data!r:.40} and the model takes an array of them, or a "
            "data set of batches."
        )
    if isinstance(data, tuple) and labels is None and needs_labels:
        raise ValueError(
            f"The images are a tuple of {len(data)}; give images and labels as two "
            "arguments."
        )
    if isinstance(data, dict) or isinstance(labels, dict):
        data, labels, _ = images_labels_weights((data, labels))
    data, labels = _checked_arrays(data, labels, config, kind)
    if not needs_labels or not hasattr(data, "shape"):
        return data, labels
    if labels is None:
        raise ValueError(
            "There are images and no labels; give y, one integer label per image."
        )
    if not len(data):
        raise ValueError("There are no images (0 of them); give at least one.")
    return data, labels


def _checked_arrays(images, labels, config, kind):
    """Returns images and labels as arrays, after the checks of both."""
    images = as_arrays("images", images)
    check_images(images, config.image_shape)
    check_values(keras.ops.convert_to_numpy(images) if _is_tensor(images) else images)
    if labels is None:
        return images, labels
    labels = as_arrays("labels", labels)
    found = keras.ops.convert_to_numpy(labels) if _is_tensor(labels) else labels
    # Text cannot become a tensor; the check below says so.
    found = np.asarray(found)
    check_labels(found, config.num_classes, kind)
    if hasattr(images, "shape") and len(found) != len(images):
        raise ValueError(
            f"There are {len(images)} images and {len(found)} labels; give one "
            "label per image."
        )
    return images, labels


def _is_tensor(values):
    return keras.ops.is_tensor(values) and not isinstance(values, np.ndarray)


def _checked_batch(batch, config, kind):
    """Returns a batch as a tuple (images[, labels[, weights]]), checked."""
    images, labels, weights = images_labels_weights(batch)
    images, labels = _checked_arrays(images, labels, config, kind)
    return keras.utils.pack_x_y_sample_weight(images, labels, weights)


class _CheckedPyDataset(keras.utils.PyDataset):
    """A `PyDataset` that checks each batch of another one."""

    def __init__(self, dataset, config, kind):
        super().__init__(
            workers=dataset.workers,
            use_multiprocessing=dataset.use_multiprocessing,
            max_queue_size=dataset.max_queue_size,
        )
        self.dataset = dataset
        self.config = config
        self.kind = kind

    def __getitem__(self, index):
        return _checked_batch(self.dataset[index], self.config, self.kind)

    @property
    def num_batches(self):
        """Number of batches of the other one."""
        return self.dataset.num_batches

    def on_epoch_begin(self):
        """Tells the other one that an epoch begins."""
        self.dataset.on_epoch_begin()

    def on_epoch_end(self):
        """Tells the other one that an epoch ended."""
        self.dataset.on_epoch_end()


def data_message(error):
    """Returns the line of a check above inside a longer error text, or None."""
    found = (line.search(str(error)) for line in _LINES)
    return next((each.group(0) for each in found if each), None)
