"""Records that `tf.data` reads in sequence: TFRecord shards and builders of TFDS."""

import os
import zlib

import tensorflow as tf

from widenet_keras.data.pipeline.readers import ENDLESS
from widenet_keras.data.pipeline.seeds import seed_pair

# Records that are shuffled among each other; ImageNet's have 0.11 MB each.
SHUFFLED_RECORDS = 4096
_SHARDS_AT_ONCE = 16


class RecordReader:
    """Reads records in sequence.

    Of its kinds each has `records`, `example`, and maybe `file_name`.

    Args:
        source: The `RecordSource`.
    """

    def __init__(self, source):
        self.source = source
        self.places = None
        if source.places is not None:
            self.places = tf.constant(source.places, tf.int64)

    def records(self, pair=None):
        """Returns a data set of the records with their labels, both scalars.

        Args:
            pair: (2,) seed of their order, as far as it can be had; None for theirs.
        """
        raise NotImplementedError

    def example(self, record, label):
        """Returns the encoded image and the label, by the source's own numbers."""
        raise NotImplementedError

    def file_name(self, record):
        """Returns the name that a record gives its image, bytes; b"" for none."""
        return b""

    def training(self, batch_size, seed, first):
        """Yields (number, records (B,), labels (B,)) without end, from a batch on."""
        per_epoch = self.source.count // batch_size
        first_epoch = first // per_epoch

        def epoch_batches(epoch):
            # tf.data mixes the seed of the graph into that of a shuffle; this sets
            # it for the graph of this function alone.
            tf.random.set_seed(1)
            pair = seed_pair(seed, "shards", epoch)
            records = self.records(pair).shuffle(
                SHUFFLED_RECORDS, seed=pair[0] + epoch, reshuffle_each_iteration=False
            )
            done = tf.where(epoch == first_epoch, first % per_epoch, 0)
            done = tf.cast(done, tf.int64)
            batches = records.skip(done * batch_size)
            batches = batches.batch(batch_size, drop_remainder=True).take(
                per_epoch - done
            )
            # Fewer records than were counted would shift all epochs that follow.
            whole = tf.data.experimental.assert_cardinality(per_epoch - done)
            return batches.apply(whole).enumerate(epoch * per_epoch + done)

        batches = tf.data.Dataset.range(first_epoch, ENDLESS).flat_map(epoch_batches)
        return batches.map(lambda number, rows: (number, *rows))

    def evaluation(self, batch_size):
        """Yields (number, records, labels) of all examples in their order."""
        batches = self.records().batch(batch_size).enumerate()
        return batches.map(lambda number, rows: (number, *rows))

    def load(self, record, label):
        """Returns the encoded image and the label of an example."""
        image, label = self.example(record, label)
        if self.places is None:
            return image, label
        # What is no class of the data stays one that is none.
        known = (label >= 0) & (label < len(self.source.places))
        place = tf.gather(self.places, tf.where(known, label, 0))
        return image, tf.where(known, place, -1)

    def name(self, record, number):
        """Returns what to call an example.

        Args:
            record: Bytes of the record.
            number: Its number among the records, or None if that is not known.
        """
        try:
            name = os.fsdecode(self.file_name(record))
        except tf.errors.OpError:  # the record itself is broken
            name = ""
        if name:
            return name
        if number is None:
            return f"with checksum {zlib.crc32(record):08x} of {self.source.name}"
        return f"number {number} of {self.source.name}"


class ShardReader(RecordReader):
    """TFRecord shards in the usual ImageNet schema; a record is an example's bytes."""

    def records(self, pair=None):
        """Returns the records, which have their labels inside."""
        if pair is None:
            records = tf.data.TFRecordDataset(list(self.source.files))
        else:
            files = tf.random.experimental.stateless_shuffle(
                tf.constant(self.source.files), pair
            )
            records = tf.data.Dataset.from_tensor_slices(files).interleave(
                tf.data.TFRecordDataset,
                cycle_length=min(_SHARDS_AT_ONCE, len(self.source.files)),
                num_parallel_calls=tf.data.AUTOTUNE,
                deterministic=True,
            )
        return records.map(lambda record: (record, tf.constant(-1, tf.int64)))

    def example(self, record, label):
        """Returns the encoded image and the label, which the schema counts from 1."""
        found = _parsed(record)
        return found["image/encoded"], found["image/class/label"] - 1

    def file_name(self, record):
        """Returns the name of the file that an image came from."""
        return _parsed(record)["image/filename"].numpy()


class BuilderShardReader(ShardReader):
    """TFRecord shards that TFDS wrote."""

    def example(self, record, label):
        """Returns the encoded image and the label."""
        found = self._features(record)
        label = tf.cast(found[self.source.label_key], tf.int64)
        return found[self.source.image_key], label

    def file_name(self, record):
        """Returns the name of the file that an image came from, if it is kept."""
        if "file_name" not in self.source.features:
            return b""
        return self._features(record)["file_name"].numpy()

    def _features(self, record):
        """Returns the features of a record, its image as it is stored."""
        import tensorflow_datasets as tfds

        return self.source.features.deserialize_example(
            record, decoders={self.source.image_key: tfds.decode.SkipDecoding()}
        )


class BuilderReader(RecordReader):
    """A builder of TFDS without TFRecord shards; a record is the encoded image."""

    def records(self, pair=None):
        """Returns the images and their labels."""
        image, label = self.source.image_key, self.source.label_key
        return self.source.dataset.map(
            lambda row: (row[image], tf.cast(row[label], tf.int64))
        )

    def example(self, record, label):
        """Returns both as they are."""
        return record, label


def _parsed(record):
    """Returns the fields of an example in the usual ImageNet schema."""
    return tf.io.parse_single_example(
        record,
        {
            "image/encoded": tf.io.FixedLenFeature([], tf.string),
            "image/class/label": tf.io.FixedLenFeature([], tf.int64),
            "image/filename": tf.io.FixedLenFeature([], tf.string, ""),
        },
    )
