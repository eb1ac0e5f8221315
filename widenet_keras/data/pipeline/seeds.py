"""Random numbers that are a function of seed, purpose and place alone."""

import tensorflow as tf

PURPOSES = ("order", "shards", "crop", "image", "batch", "mixup", "cutmix")


def seed_pair(seed, purpose, place):
    """Returns the seed of a stateless draw, (2,) int64.

    Args:
        seed: Seed of the run, a whole number.
        purpose: One of `PURPOSES`, so that no two draws share their numbers.
        place: Tensor, int64: epoch, number of the image or of the batch.
    """
    mixed = (seed * 1_000_003 + PURPOSES.index(purpose)) % 2**62
    return tf.stack([tf.constant(mixed, tf.int64), tf.cast(place, tf.int64)])
