"""Random draws handed down as an argument, so that shared layers hold no state."""

from widenet_keras.utils import numerics
from widenet_keras.utils.execution import replica_of_call

# Odd numbers that keep the sums of small multiples of them apart in 31 bits.
_STEP, _SITE, _PART = 0x632BE5AB, 0x1E3779B1, 0x2545F491
_BATCH = 0x3C6EF373


class RandomDraws:
    """Draws of one step of a forward pass: dropout, dropped paths, noise, copies.

    A layer that is called once per step must not own random state: under remat
    and `scan` such state is redrawn or lost (wrong gradients), and a shared
    layer has no state of its own per step. So the owner of the `SeedGenerator`
    takes one seed per forward pass, makes a seed for each step from it, and
    hands down the draws: a pure function of that seed and of the order in which
    they are asked for, equal whenever the same step is computed again.

    Args:
        seed: Seed as `numerics.first_seed` returns it, or None at inference, where
            every method returns its input unchanged.
        site: How many draws were made before.
        batch_seed: The seed that all devices have which share the batch; None for
            `seed`.
    """

    def __init__(self, seed=None, site=0, batch_seed=None):
        self.seed = seed
        self.site = site
        self.batch_seed = seed if batch_seed is None else batch_seed

    @classmethod
    def begin(cls, seed_generator):
        """Returns the draws of one forward pass.

        Args:
            seed_generator: `keras.random.SeedGenerator`; it moves on by one.
        """
        draws = cls(numerics.first_seed(seed_generator))
        replica = replica_of_call()
        if replica is None:
            return draws
        return cls(draws.of_part(replica).seed, batch_seed=draws.seed)

    @property
    def silent(self):
        """Whether nothing is drawn, as at inference."""
        return self.seed is None

    def seeds_of_steps(self, steps):
        """Returns a seed for each step, L of them; None if silent."""
        if self.silent:
            return None
        # The low 31 bits, which the seeds of every backend can hold.
        offsets = [(step + 1) * _STEP & 0x7FFFFFFF for step in range(steps)]
        return numerics.seeds_at(self.seed, offsets)

    def of_part(self, index):
        """Returns draws that differ for each integer `index`, a tensor or not."""
        if self.silent:
            return self
        return RandomDraws(numerics.moved_seed(self.seed, index, _PART))

    def dropout(self, x, rate):
        """Zeroes entries of `x` with probability `rate` and rescales the rest."""
        if self.silent or rate == 0:
            return x
        return numerics.dropped(x, self._next(), rate)

    def drop_path(self, x, rate):
        """Zeroes whole images of a (B, T, D) branch with probability `rate`.

        Source: "Deep Networks with Stochastic Depth".

        Args:
            x: (B, T, D).
            rate: A number, or a scalar tensor where it differs by step.
        """
        if self.silent or (isinstance(rate, float | int) and rate == 0):
            return x
        keep = numerics.uniform((numerics.shape(x)[0], 1, 1), self._next()) >= rate
        return x * numerics.cast(numerics.cast(keep, "float32") / (1.0 - rate), x.dtype)

    def add_normal(self, x, stddev):
        """Adds normal noise of standard deviation `stddev` to `x`."""
        if self.silent or stddev == 0:
            return x
        noise = numerics.normal(numerics.shape(x), self._next(), stddev)
        return x + numerics.cast(noise, x.dtype)

    def one_of(self, count):
        """Returns (count,) float32: a 1 in a place that is drawn evenly, else 0.

        Not for draws that are `silent`.
        """
        drawn = numerics.uniform((), self._next()) * count
        places = ((drawn >= place, drawn < place + 1) for place in range(count))
        return numerics.stacked(
            [numerics.cast(low & high, "float32") for low, high in places]
        )

    def share(self, shares, chances):
        """Returns one of some numbers, float32 (); the same for the whole batch.

        Not for draws that are `silent`.

        Args:
            shares: The numbers.
            chances: How probable each is; they add up to 1.
        """
        drawn = numerics.uniform((), numerics.moved_seed(self.batch_seed, 1, _BATCH))
        found, end = shares[0], 0.0
        for before, after, chance in zip(shares, shares[1:], chances, strict=False):
            end += chance
            found = found + (after - before) * numerics.cast(drawn >= end, "float32")
        return found

    def numbers(self, *shape):
        """Returns float32 numbers from 0 to 1; the same for the whole batch.

        Not for draws that are `silent`.
        """
        return numerics.uniform(shape, numerics.moved_seed(self.batch_seed, 2, _BATCH))

    def _next(self):
        self.site += 1
        return numerics.moved_seed(self.seed, self.site, _SITE)


SILENT = RandomDraws()
