"""Checks of training data before a model sees it, with one clear line each."""

import re
import sys

import keras
import numpy as np

from widenet_keras.data.pixels import check_values
from widenet_keras.models.image_checks import check_images, check_labels


def checked_data(data, labels, config, kind=None, needs_labels=True):
    """Checks images and labels and returns data that goes on checking itself.

    Arrays are checked whole, here. Batches of `tf.data`, of a `PyDataset` and
    of a generator are checked as they come; those of a torch `DataLoader` are
    left to the model, which checks the images only.

    Args:
        data: Images, or a data set of (images, labels[, weights]) batches.
        labels: Labels if `data` are images, else None.
        config: `WideNetConfig` of the model.
        kind: Which labels are right, as for `check_labels`.
        needs_labels: Whether images without labels are a mistake.

    Returns:
        What to hand to Keras in place of `data`.

    Raises:
        ValueError: If something does not fit; one line says what and why.
    """
    if hasattr(data, "element_spec"):
        return _checked_tensorflow_dataset(data, config, kind)
    if isinstance(data, keras.utils.PyDataset):
        return _CheckedPyDataset(data, config, kind)
    if hasattr(data, "__next__"):
        return (_checked_batch(batch, config, kind) for batch in data)
    _check_arrays(data, labels, config, kind)
    if labels is None and needs_labels and hasattr(data, "shape"):
        raise ValueError(
            "There are images and no labels; give y, one integer label per image."
        )
    return data


def _check_arrays(images, labels, config, kind):
    if isinstance(images, list):
        raise ValueError(
            "The images are a list and the model takes an array; use "
            "numpy.stack(images)."
        )
    check_images(images, config.image_shape)
    check_values(images)
    if labels is not None and hasattr(labels, "__len__"):
        # Text cannot become a tensor; the check below says so.
        labels = np.asarray(
            labels
            if isinstance(labels, list | tuple | np.ndarray)
            else keras.ops.convert_to_numpy(labels)
        )
        check_labels(labels, config.num_classes, kind)
        if len(labels) != len(images):
            raise ValueError(
                f"There are {len(images)} images and {len(labels)} labels; give one "
                "label per image."
            )


def _checked_batch(batch, config, kind):
    images, labels, _ = keras.utils.unpack_x_y_sample_weight(batch)
    _check_arrays(images, labels, config, kind)
    return batch


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


def _checked_tensorflow_dataset(dataset, config, kind):
    """Maps an assertion over the labels; images are checked by their spec."""
    spec = dataset.element_spec
    spec = spec if isinstance(spec, tuple) else (spec,)
    check_images(spec[0], config.image_shape)
    tf = sys.modules["tensorflow"]
    if not isinstance(dataset, tf.data.Dataset) or len(spec) < 2:
        return dataset
    shape = spec[1].shape
    if shape.rank in (1, 2) and None not in shape[1:]:
        check_labels(np.zeros((1, *shape[1:])), config.num_classes, kind)
    if not spec[1].dtype.is_integer or kind not in (None, "classes"):
        return dataset

    def check(images, labels, *rest):
        low, high = tf.reduce_min(labels), tf.reduce_max(labels)
        fits = tf.logical_and(low >= 0, high < config.num_classes)
        message = tf.strings.format(
            "The labels run from {} to {} and the model has "
            f"num_classes={config.num_classes}; labels must be 0 to "
            f"{config.num_classes - 1}.",
            (low, high),
        )
        with tf.control_dependencies([tf.debugging.Assert(fits, [message])]):
            return (tf.identity(images), labels, *rest)

    return dataset.map(check)


def label_message(error):
    """Returns the line of a label check inside a longer error text, or None."""
    found = re.search(r"The labels run from .*? labels must be 0 to \d+\.", str(error))
    return found.group(0) if found else None
