"""Checks of training data before a model sees it, with one clear line each."""

import collections
import copy
import functools
import inspect
import numbers
import os
import re

import keras
import numpy as np

from widenet_keras.data.pixels import check_extremes, extremes_of
from widenet_keras.models.image_checks import NO_NUMBERS, check_images, check_labels
from widenet_keras.training.batch_forms import (
    NO_WEIGHTS,
    as_arrays,
    images_labels_weights,
    no_labels,
)
from widenet_keras.utils.host_copies import copied, copies_begun, is_on_accelerator

# What checks inside a graph say, which TensorFlow wraps.
_LINES = (
    re.compile(r"The labels run from .*? labels must be 0 to \d+\."),
    re.compile(r"The labels run from .*? use a loss for whole numbers\."),
    re.compile(r"The labels must be whole .*? from 0 to \d+\."),
    re.compile(re.escape(NO_NUMBERS)),
    re.compile(re.escape(NO_WEIGHTS)),
    re.compile(r"The images have shape .*? or a config that fits\."),
    re.compile(r"The images run from .*? on whole pixels\."),
    re.compile(r"The images have values that .*? leave these images out\."),
)
_NO_DATA = (str, bytes, numbers.Number, os.PathLike, set)


def checked_data(data, labels, config, kind=None, needs_labels=True, most=None):
    """Checks images and labels and returns data that goes on checking itself.

    Arrays are checked whole, here; batches of `tf.data`, of a `PyDataset`, of a
    generator and of a torch `DataLoader` as they come.

    Args:
        data: Images, or a data set of batches, as `images_labels_weights` takes them.
        labels: Labels if `data` are images, else None.
        config: `WideNetConfig` of the model.
        kind: Which labels are right, as for `check_labels`.
        needs_labels: Whether images without labels are a mistake, and no image.
        most: How many batches of a generator will be asked for, if that is known.

    Returns:
        What to hand to Keras in place of `data` and `labels`.

    Raises:
        ValueError: If something does not fit; one line says what and why.
    """
    how = (config, kind, needs_labels)
    _check_not_empty(data)
    if hasattr(data, "element_spec"):
        from widenet_keras.training.data_checks_tensorflow import checked_dataset

        return checked_dataset(data, *how), labels
    if isinstance(data, keras.utils.PyDataset):
        return _CheckedPyDataset(data, how), labels
    if hasattr(data, "__next__"):
        return _checked_stream(data, how, most), labels
    if hasattr(data, "collate_fn"):
        return _checked_loader(data, how), labels
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
    if not hasattr(data, "shape") and not isinstance(data, dict | list | tuple):
        # A data set of another library, which Keras knows.
        return data, labels
    data, labels, _ = _check_begun((data, labels), *how)()
    if needs_labels and not len(data):
        raise ValueError("There are no images (0 of them); give at least one.")
    return data, labels


def checked_weights(weights, count):
    """Returns sample weights as Keras takes them.

    Args:
        weights: A number per image, or None.
        count: Number of images.

    Raises:
        ValueError: If they are not one finite number per image.
    """
    weights = as_arrays("sample weights", weights)
    [found] = copies_begun([weights])()
    _check_weights(found, count)
    return weights


def _check_weights(found, count):
    """Raises `ValueError` unless an array, or None, is right as sample weights."""
    if found is None:
        return
    fits = found.shape and len(found) == found.size == count
    if found.dtype.kind not in "iufb" or not fits:
        raise ValueError(
            f"The sample weights have shape {found.shape} and dtype {found.dtype}, "
            f"and there are {count} images; give one number per image."
        )
    if not np.isfinite(found).all():
        raise ValueError(NO_WEIGHTS)


def _check_not_empty(data):
    """Raises `ValueError` for a data set that is known to have no batch."""
    batches = None
    if isinstance(data, keras.utils.PyDataset):
        batches = data.num_batches
    # What is spread over devices has a number here, of its first part.
    elif hasattr(data, "element_spec") and callable(getattr(data, "cardinality", None)):
        batches = int(data.cardinality())
    if batches == 0:
        raise ValueError(
            "The data set has no batch; see what leaves it empty (a filter, take(0), "
            "drop_remainder of fewer images than a batch)."
        )


def _check_begun(batch, config, kind, needs_labels):
    """Begins to check a batch: its form at once, its values where they are.

    Returns:
        A function that ends the check and returns images, labels and weights.
    """
    images, labels, weights = images_labels_weights(batch)
    if isinstance(images, list | tuple) and not images:
        images = np.zeros((0, *config.image_shape), "float32")
    images = as_arrays("images", images)
    check_images(images, config.image_shape)
    if labels is None and needs_labels:
        raise no_labels()
    labels = as_arrays("labels", labels)
    weights = as_arrays("sample weights", weights)
    copies = copies_begun([extremes_of(images), labels, weights])

    def checked():
        extremes, found, shares = copies()
        check_extremes(extremes)
        if found is not None:
            # Text cannot become a tensor; this says so.
            check_labels(found, config.num_classes, kind)
            if len(found) != len(images):
                raise ValueError(
                    f"There are {len(images)} images and {len(found)} labels; give "
                    "one label per image."
                )
        _check_weights(shares, len(images))
        return images, labels, weights

    return checked


def _checked_stream(batches, how, most):
    """Yields the batches of a generator, checked.

    A batch on an accelerator is looked at before the one before it is handed out: its
    check would otherwise wait for a whole batch, and the next batch for the check. It
    is copied, since a generator may fill the same tensor again; and no batch is taken
    that nobody will ask for.
    """
    begun = collections.deque()
    for number, batch in enumerate(batches, 1):
        ahead = is_on_accelerator(images_labels_weights(batch)[0])
        if ahead:
            batch = keras.tree.map_structure(copied, batch)
        begun.append(_check_begun(batch, *how))
        while len(begun) > (ahead and number != most):
            yield _for_keras(begun.popleft()())
    for checked in begun:
        yield _for_keras(checked())


def _for_keras(batch):
    """Returns a batch as a tuple; Keras takes no bare images from a generator."""
    return batch[:1] if batch[1] is None else keras.utils.pack_x_y_sample_weight(*batch)


class _CheckedPyDataset(keras.utils.PyDataset):
    """A `PyDataset` that checks each batch of another one."""

    def __init__(self, dataset, how):
        super().__init__(
            workers=dataset.workers,
            use_multiprocessing=dataset.use_multiprocessing,
            max_queue_size=dataset.max_queue_size,
        )
        self.dataset = dataset
        self.how = how

    def __getitem__(self, index):
        return _for_keras(_check_begun(self.dataset[index], *self.how)())

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


def _checked_loader(loader, how):
    """Returns a copy of a torch `DataLoader` that checks each batch."""
    checked = copy.copy(loader)
    # Workers that persist have the other function.
    checked._iterator = None
    checked.collate_fn = functools.partial(_collated, loader.collate_fn, how)
    return checked


def _collated(collate, how, samples):
    return _for_keras(_check_begun(collate(samples), *how)())


def data_message(error):
    """Returns the line of a check above inside a longer error text, or None."""
    found = (line.search(str(error)) for line in _LINES)
    return next((each.group(0) for each in found if each), None)


def has_its_own_order(data):
    """Whether data are a stream: a `tf.data` set, generator or endless `PyDataset`."""
    endless = isinstance(data, keras.utils.PyDataset) and data.num_batches is None
    return hasattr(data, "element_spec") or endless or inspect.isgenerator(data)


def is_empty(data):
    """Whether data are an array of no images."""
    return hasattr(data, "shape") and len(data) == 0
