"""Images that fail inside `tf.data`: found by their absence, named, replaced."""

import tensorflow as tf

from widenet_keras.data.broken_images import reason_of


class Guard:
    """Finds the images of a batch that could not be read.

    `tf.data` drops an element that fails and does not say which. So every batch is
    a small data set of its own, and what it lacks in the end is looked at again.

    Args:
        reader: Reader of the source.
        broken: `BrokenImages`.
        make_image: Function of the number of an image and of what the reader
            loaded; raises what is wrong with it.
        num_classes: Number of classes.
    """

    def __init__(self, reader, broken, make_image, num_classes):
        self.reader = reader
        self.broken = broken
        self.make_image = make_image
        self.num_classes = num_classes

    def checked_label(self, label):
        """Returns the label; fails if there is no such class."""
        message = f"its label is not one of {self.num_classes} classes"
        fits = (label >= 0) & (label < self.num_classes)
        with tf.control_dependencies([tf.debugging.Assert(fits, [message])]):
            return tf.identity(label)

    def report(self, numbers, records, labels, places, some=False):
        """Reports the images of a batch that are not among those at `places`.

        Args:
            numbers: (B,) numbers of the images.
            records: (B,) records of the batch.
            labels: (B,) their labels.
            places: (n,) places in the batch of the images that were read.
            some: Whether this is training: a batch of which nothing is left stops
                the run, and numbers are not those of the images.

        Returns:
            A tensor, 0, to depend on.
        """

        def look(numbers, records, labels, places):
            lost = sorted(set(range(len(records))) - set(places.tolist()))
            for place in lost:
                number = int(numbers[place])
                # In training the number counts what was drawn; it names no image.
                known = None if some else number
                self._look_at(records[place], labels[place], number, known)
            if some and len(lost) == len(records):
                raise ValueError(
                    "None of the images of a batch can be read; look at the first "
                    "one that was skipped."
                )
            return 0

        return tf.numpy_function(look, [numbers, records, labels, places], tf.int64)

    def _look_at(self, record, label, number, known):
        """Reads an image again to learn what is wrong with it."""
        name = self.reader.name(record, known)
        try:
            image, label = self.reader.load(tf.constant(record), tf.constant(label))
            self.checked_label(label)
            self.make_image(tf.constant(number, tf.int64), image)
            reason = "it could not be read the first time"
        except tf.errors.OpError as error:
            reason = reason_of(error)
        self.broken.add(name, reason)

    @staticmethod
    def replaced(places, rows, batch_size):
        """Puts rows where they belong, and good rows in the place of lost ones.

        Args:
            places: (n,) place in the batch of every row, n > 0.
            rows: Tensors (n, ...).
            batch_size: B.

        Returns:
            Tensors (B, ...).
        """
        # A lost row becomes a copy of a row that was read, another one for each.
        spare = tf.range(batch_size) % tf.size(places)
        row_of_place = tf.tensor_scatter_nd_update(
            spare, tf.cast(places, tf.int32)[:, None], tf.range(tf.size(places))
        )
        return [tf.gather(row, row_of_place) for row in rows]
