"""Random draws handed down as an argument, so that shared layers hold no state."""

import keras
import numpy as np
from keras import ops

from widenet_keras.utils.execution import replica_of_call

# Odd numbers that keep the sums of small multiples of them apart in 31 bits.
_STEP, _SITE, _PART = 0x632BE5AB, 0x1E3779B1, 0x2545F491


class RandomDraws:
    """Draws of one step of a forward pass: dropout, dropped paths, router noise.

    A layer that is called once per step must not own random state: under remat
    and `scan` such state is redrawn or lost (wrong gradients), and a shared
    layer has no state of its own per step. So the owner of the `SeedGenerator`
    takes one seed per forward pass, makes a seed for each step from it, and
    hands down the draws: a pure function of that seed and of the order in which
    they are asked for, equal whenever the same step is computed again.

    Args:
        seed: (2,) seed in Keras' own form, or None at inference, where every
            method returns its input unchanged.
    """

    def __init__(self, seed=None):
        self.seed = seed
        self._site = 0

    @classmethod
    def begin(cls, seed_generator):
        """Returns the draws of one forward pass.

        Args:
            seed_generator: `keras.random.SeedGenerator`; it moves on by one.
        """
        draws = cls(seed_generator.next())
        replica = replica_of_call()
        return draws if replica is None else draws.of_part(replica)

    @property
    def silent(self):
        """Whether nothing is drawn, as at inference."""
        return self.seed is None

    def seeds_of_steps(self, steps):
        """Returns a seed for each step, (L, 2); None if silent."""
        if self.silent:
            return None
        offsets = [[_wrapped((step + 1) * _STEP), 0] for step in range(steps)]
        return self.seed + ops.convert_to_tensor(
            np.array(offsets, "int64"), dtype=self.seed.dtype
        )

    def of_part(self, index):
        """Returns draws that differ for each integer `index`, a tensor or not."""
        if self.silent:
            return self
        offset = ops.cast(ops.stack([index, index * 0]), self.seed.dtype) * _PART
        return RandomDraws(self.seed + offset)

    def dropout(self, x, rate):
        """Zeroes entries of `x` with probability `rate` and rescales the rest."""
        if self.silent or rate == 0:
            return x
        return _kept(x, self._uniform(ops.shape(x)) >= rate, rate)

    def drop_path(self, x, rate):
        """Zeroes whole images of a (B, T, D) branch with probability `rate`.

        Source: "Deep Networks with Stochastic Depth".

        Args:
            x: (B, T, D).
            rate: A number, or a scalar tensor where it differs by step.
        """
        if self.silent or (isinstance(rate, float | int) and rate == 0):
            return x
        return _kept(x, self._uniform((ops.shape(x)[0], 1, 1)) >= rate, rate)

    def add_normal(self, x, stddev):
        """Adds normal noise of standard deviation `stddev` to `x`."""
        if self.silent or stddev == 0:
            return x
        noise = keras.random.normal(
            ops.shape(x), stddev=stddev, dtype="float32", seed=self._next()
        )
        return x + ops.cast(noise, x.dtype)

    def _uniform(self, shape):
        return keras.random.uniform(shape, dtype="float32", seed=self._next())

    def _next(self):
        self._site += 1
        offset = ops.convert_to_tensor(
            np.array([_wrapped(self._site * _SITE), 0], "int64"), dtype=self.seed.dtype
        )
        return _FixedSeed(self.seed + offset)


SILENT = RandomDraws()


class _FixedSeed(keras.random.SeedGenerator):
    """A seed in the place of a generator: `keras.random` takes no bare tensors."""

    def __init__(self, seed):
        self.seed = seed

    def next(self, ordered=True):
        return self.seed


def _kept(x, keep, rate):
    """`x` over the probability of being kept where `keep` holds, else 0."""
    scale = 1.0 / (1.0 - ops.cast(rate, x.dtype))
    return ops.where(keep, x * scale, ops.zeros((), dtype=x.dtype))


def _wrapped(number):
    """The low 31 bits of a number, which every backend's seeds can hold."""
    return number & 0x7FFFFFFF
