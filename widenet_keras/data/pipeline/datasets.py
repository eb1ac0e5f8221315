"""The `tf.data` data sets of training and evaluation batches."""

import os

import tensorflow as tf

from widenet_keras.data.pipeline.decoding import (
    decoded,
    evaluation_pixels,
    training_crop,
)
from widenet_keras.data.pipeline.guard import Guard
from widenet_keras.data.pipeline.mixing import finish, finisher, is_mixed
from widenet_keras.data.pipeline.randaugment import draws_per_image, image_function
from widenet_keras.data.pipeline.seeds import seed_pair

# Batches that are made at the same time, so that one's end is another's start.
_BATCHES_AT_ONCE = 2


class TrainingPipeline:
    """Makes the data sets of training batches; what is compiled is compiled once.

    Args:
        source: `Source`.
        layout: `Layout` of the batches.
        augmentation: `Augmentation`.
        seed: Seed of the run.
        broken: `BrokenImages`.
    """

    def __init__(self, source, layout, augmentation, seed, broken):
        self.layout = layout
        self.augmentation = augmentation
        self.seed = seed
        self.reader = source.tensorflow_reader()
        self.guard = _guard(self.reader, broken, layout, self._image)
        self.augment = image_function(augmentation)
        self.finished = finisher(layout, augmentation, seed)

    def dataset(self, first, rows):
        """Returns an endless data set of batches, from one of the run on.

        Args:
            first: Number of the first batch; those before it are not decoded.
            rows: `range` of the rows of every batch to make.
        """
        batch_size = self.layout.batch_size
        # An image is mixed with the one before it, which is then made as well.
        lead = int(len(rows) < batch_size and is_mixed(self.augmentation))
        wanted = [row % batch_size for row in range(rows.start - lead, rows.stop)]

        def numbered(number, records, labels):
            numbers = number * batch_size + tf.constant(wanted, tf.int64)
            if len(wanted) < batch_size:
                records, labels = tf.gather(records, wanted), tf.gather(labels, wanted)
            return numbers, records, labels

        def complete(*parts):
            return tuple(part[lead:] for part in self._complete(wanted, *parts))

        batches = self.reader.training(batch_size, self.seed, first).map(numbered)
        batches = _read(batches, self.reader, self.guard, self.layout, self._image)
        batches = batches.map(
            complete, num_parallel_calls=_BATCHES_AT_ONCE, deterministic=True
        )
        return batches.prefetch(_BATCHES_AT_ONCE)

    def _image(self, number, loaded):
        """Returns the image of a number, cropped and changed, uint8."""
        count = draws_per_image(self.augmentation)
        draws = tf.random.stateless_uniform(
            (2 + count,), seed_pair(self.seed, "image", number)
        )
        crop = training_crop(
            loaded,
            self.layout,
            self.augmentation,
            seed_pair(self.seed, "crop", number),
            draws[:2],
        )
        return self.augment(crop, draws[2:])

    def _complete(self, wanted, numbers, records, labels, places, images, found):
        """Fills the places of images that could not be read, and mixes."""
        count = len(wanted)

        def filled():
            reported = self.guard.report(numbers, records, labels, places, some=True)
            with tf.control_dependencies([reported]):
                return self.guard.replaced(places, (images, found), count)

        images, found = tf.cond(
            tf.size(places) == count, lambda: [images, found], filled
        )
        return self.finished(
            numbers[0] // self.layout.batch_size,
            wanted,
            tf.ensure_shape(images, (count, *self.layout.image_shape)),
            tf.ensure_shape(found, (count,)),
        )


def evaluation_dataset(source, layout, broken):
    """Returns the data set of all images in their order, the last batch smaller.

    Args:
        source: `Source`.
        layout: `Layout` of the batches.
        broken: `BrokenImages`.
    """
    reader = source.tensorflow_reader()

    def image(_, loaded):
        return evaluation_pixels(loaded, layout)

    guard = _guard(reader, broken, layout, image)

    def numbered(number, records, labels):
        places = tf.range(tf.size(labels, tf.int64), dtype=tf.int64)
        return number * layout.batch_size + places, records, labels

    def complete(numbers, records, labels, places, images, found):
        reported = tf.cond(
            tf.size(places) == tf.size(labels),
            lambda: tf.constant(0, tf.int64),
            lambda: guard.report(numbers, records, labels, places),
        )
        with tf.control_dependencies([reported]):
            images = tf.ensure_shape(images, (None, *layout.image_shape))
        return finish(images, found, {}, layout.num_classes, 0.0)

    batches = reader.evaluation(layout.batch_size).map(numbered)
    dataset = _read(batches, reader, guard, layout, image)
    dataset = dataset.map(
        complete, num_parallel_calls=_BATCHES_AT_ONCE, deterministic=True
    )
    if broken.on_error == "raise" or source.in_memory:
        count = -(-source.count // layout.batch_size)
        dataset = dataset.apply(tf.data.experimental.assert_cardinality(count))
    else:
        dataset = dataset.filter(lambda images, _: tf.shape(images)[0] > 0)
    return dataset.prefetch(_BATCHES_AT_ONCE)


def _guard(reader, broken, layout, image):
    """Returns the guard of images that `image` is to make."""

    def make(number, loaded):
        # All of it first: a crop may miss what is broken.
        decoded(loaded, layout.channels)
        image(number, loaded)

    return Guard(reader, broken, make, layout.num_classes)


def _read(batches, reader, guard, layout, image):
    """Returns batches of records together with their images.

    Args:
        batches: Data set of (numbers of the images (B,), records (B,), labels (B,)).
        reader: The reader of the records.
        guard: The `Guard`.
        layout: `Layout` of the batches.
        image: Function of an image's number and what the reader loaded to uint8.

    Returns:
        Data set of (numbers (B,), records (B,), labels (B,), places (n,), images (n,
        height, width, C), labels (n,)) with n <= B images that could be read.
    """

    def one(place, number, record, label):
        loaded, label = reader.load(record, label)
        return place, image(number, loaded), guard.checked_label(label)

    def batch(numbers, records, labels):
        places = tf.range(tf.size(labels, tf.int64), dtype=tf.int64)
        images = tf.data.Dataset.from_tensor_slices((places, numbers, records, labels))
        images = images.map(one, num_parallel_calls=_cores(), deterministic=True)
        images = images.ignore_errors().batch(layout.batch_size)
        # Comes second, so it is taken only if nothing could be read.
        none = tf.data.Dataset.from_tensors(
            (
                tf.zeros((0,), tf.int64),
                tf.zeros((0, *layout.image_shape), tf.uint8),
                tf.zeros((0,), tf.int64),
            )
        )
        rows = tf.data.Dataset.from_tensors((numbers, records, labels))
        return tf.data.Dataset.zip((rows, images.concatenate(none).take(1)))

    dataset = batches.interleave(
        batch,
        cycle_length=_BATCHES_AT_ONCE,
        num_parallel_calls=_BATCHES_AT_ONCE,
        deterministic=True,
    )
    return dataset.map(lambda rows, images: (*rows, *images))


def _cores():
    """Returns how many images to work on at the same time."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
