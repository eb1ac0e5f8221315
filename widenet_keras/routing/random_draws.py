"""Random draws handed down as an argument, so that shared layers hold no state."""

import keras
from keras import ops


class RandomDraws:
    """Draws of one forward pass: dropout, dropped paths, router noise.

    A layer that is called once per step must not own random state: under remat
    and `scan` such state is redrawn or lost (wrong gradients), and a shared
    layer has no state of its own per step. So the owner of the `SeedGenerator`
    makes one of these per call and passes it down.

    Args:
        seed_generator: `keras.random.SeedGenerator`, or None at inference,
            where every method returns its input unchanged.
    """

    def __init__(self, seed_generator=None):
        self.seed_generator = seed_generator

    @property
    def silent(self):
        """Whether nothing is drawn, as at inference."""
        return self.seed_generator is None

    def dropout(self, x, rate):
        """Zeroes entries of `x` with probability `rate` and rescales the rest."""
        if self.silent or rate == 0:
            return x
        return keras.random.dropout(x, rate, seed=self.seed_generator)

    def drop_path(self, x, rate):
        """Zeroes whole images of a (B, T, D) branch with probability `rate`.

        Source: "Deep Networks with Stochastic Depth".
        """
        if self.silent or rate == 0:
            return x
        return keras.random.dropout(
            x, rate, noise_shape=(None, 1, 1), seed=self.seed_generator
        )

    def add_normal(self, x, stddev):
        """Adds normal noise of standard deviation `stddev` to `x`."""
        if self.silent or stddev == 0:
            return x
        noise = keras.random.normal(
            ops.shape(x), stddev=stddev, dtype="float32", seed=self.seed_generator
        )
        return x + ops.cast(noise, x.dtype)


SILENT = RandomDraws()
