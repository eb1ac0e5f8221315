"""Which examples a batch has, and how `tf.data` has their images, by their number."""

import os

import numpy as np
import tensorflow as tf

from widenet_keras.data.colours import with_channels
from widenet_keras.data.numpy_reading import given
from widenet_keras.data.pipeline.seeds import seed_pair

ENDLESS = np.iinfo("int64").max


class IndexReader:
    """Reads examples by their number, so that any batch can be had at once.

    A record is the number, and `Source.image` is called for it.

    Args:
        source: The `Source`, whose images can be picked.
    """

    def __init__(self, source):
        self.source = source
        self.labels = on_host(source.targets)

    def training(self, batch_size, seed, first):
        """Yields (number, records (B,), labels (B,)) without end, from a batch on."""
        count = self.source.count
        per_epoch = count // batch_size * batch_size

        def batch(number):
            numbers = number * batch_size + tf.range(batch_size, dtype=tf.int64)
            # All images of a batch are of one epoch.
            pair = seed_pair(seed, "order", numbers[0] // per_epoch)
            return number, *self.rows(_shuffled(numbers % per_epoch, pair, count))

        return tf.data.Dataset.range(first, ENDLESS).map(batch)

    def evaluation(self, batch_size):
        """Yields (number, records, labels) of all examples in their order."""
        count = self.source.count

        def batch(number):
            first = number * batch_size
            return number, *self.rows(
                tf.range(first, tf.minimum(first + batch_size, count))
            )

        return tf.data.Dataset.range(-(-count // batch_size)).map(batch)

    def rows(self, places):
        """Returns the records and labels at some places of the source."""
        return places, tf.gather(self.labels, places)

    def load(self, record, label):
        """Returns the image, encoded or uint8, and the label of an example."""

        def image(row):
            found = given(self.source, int(row))
            return found if self.source.encoded else with_channels(found, 3)

        kind = tf.string if self.source.encoded else tf.uint8
        shape = () if self.source.encoded else (None, None, 3)
        # Not `tf.numpy_function`, whose bytes lose zeros at their end.
        found = tf.py_function(image, [record], kind)
        return tf.ensure_shape(found, shape), label

    def name(self, record, number):
        """Returns what to call an example, of which the record tells."""
        return self.source.image_name(int(record))


class FileReader(IndexReader):
    """Image files of class folders; a record is the path below the root."""

    def __init__(self, source):
        super().__init__(source)
        self.files = on_host(source.files)
        self.root = os.fsencode(source.root) + b"/"

    def rows(self, places):
        """Returns the records and labels at some places of the source."""
        return tf.gather(self.files, places), tf.gather(self.labels, places)

    def load(self, record, label):
        """Returns the encoded image and the label of an example."""
        return tf.io.read_file(self.root + record), label

    def name(self, record, number):
        """Returns what to call an example: its path."""
        return os.fsdecode(record)


class ArrayReader(IndexReader):
    """Images in memory."""

    def __init__(self, source):
        super().__init__(source)
        self.images = on_host(source.images)

    def load(self, record, label):
        """Returns the image, uint8, and the label of an example."""
        return self.images[record], label


def on_host(values):
    """Returns a tensor that takes no room on a GPU, which would read none of it."""
    with tf.device("CPU"):
        return tf.constant(values)


def _shuffled(places, pair, count):
    """Returns where some places of an epoch lie in its order.

    `index_shuffle` gives neighbouring keys nearly the same order (a correlation of
    0.76 for 50,000 places) and leaves neighbouring places near each other. Drawn keys
    and a second pass have neither.
    """
    last = tf.constant(count - 1, tf.int64)
    for key in tf.unstack(
        tf.random.stateless_uniform((2, 2), pair, None, None, tf.int64)
    ):
        places = tf.random.experimental.index_shuffle(places, key, last)
    return places
