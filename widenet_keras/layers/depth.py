"""Repeating a round of steps over the depth: unrolled, or as one compiled loop."""

from typing import NamedTuple

import keras
from keras import ops

from widenet_keras.routing.record import RoutingRecord
from widenet_keras.utils.execution import must_unroll, shapes_are_static

if keras.backend.backend() == "jax":
    from widenet_keras.layers.depth_jax import SHORTEST, is_traced, loop
elif keras.backend.backend() == "tensorflow":
    from widenet_keras.layers.depth_tensorflow import (
        SHORTEST,
        is_traced,
        loop,
        remat,
    )
else:

    def is_traced(tokens):
        """Whether the call is being compiled; this backend runs as it is called."""
        return False

    loop, SHORTEST = None, 2

if keras.backend.backend() != "tensorflow":

    def remat(function, variables):
        """Returns the function with its activations computed again for gradients."""
        return keras.remat(function)


SCANS = ("auto", "always", "never")
REMATS = ("none", "full")


class Segment(NamedTuple):
    """Neighbouring steps that repeat one pattern of blocks.

    Attributes:
        first: Index of its first step.
        pattern: Blocks of one round, p indices.
        rounds: How often the pattern is repeated.
    """

    first: int
    pattern: tuple[int, ...]
    rounds: int

    @property
    def end(self):
        """Index of the step after its last one."""
        return self.first + len(self.pattern) * self.rounds


def segments_of(block_of_step):
    """Returns the fewest `Segment`s that repeat their patterns as plans do.

    A plan repeats a single block ("all", "sequence") or the whole stack
    ("cycle", whose last round may be cut short).

    Args:
        block_of_step: The block that each step reads, a tuple of length L.
    """
    steps = len(block_of_step)
    period = max(block_of_step) + 1
    cycle = tuple(range(period))
    rounds = steps // period
    if rounds > 1 and block_of_step == tuple(step % period for step in range(steps)):
        found = [Segment(0, cycle, rounds)]
        first = rounds * period
    else:
        found, first = [], 0
    while first < steps:
        block = block_of_step[first]
        end = first
        while end < steps and block_of_step[end] == block:
            end += 1
        found.append(Segment(first, (block,), end - first))
        first = end
    return tuple(found)


def repeat(one_round, tokens, private, rounds, scan="auto"):
    """Applies a round of steps again and again, each with its private pieces.

    Args:
        one_round: Function of tokens and the pieces of one round that returns
            tokens and a `RoutingRecord` of its r routed steps, or `()`.
        tokens: (B, T, D).
        private: NamedTuple of arrays with a leading axis of rounds, or None.
        rounds: How many.
        scan: One of `SCANS`.

    Returns:
        Tokens, and the record of rounds * r steps, or `()`.
    """
    wanted = scan == "always" or (
        scan == "auto" and rounds >= SHORTEST and is_traced(tokens)
    )
    # In a loop XLA needs every shape as a constant, the number of images too.
    possible = loop is not None and not (
        must_unroll() or (shapes_are_static() and tokens.shape[0] is None)
    )
    if wanted and possible and rounds > 1:
        tokens, record = loop(one_round, tokens, private, rounds)
        return tokens, _merged(record)
    records = []
    for index in range(rounds):
        mine = type(private)(*(None if a is None else a[index] for a in private))
        tokens, record = one_round(tokens, mine)
        records.append(record)
    return tokens, joined(records)


def joined(records):
    """Returns one record of the steps of several, in order; `()` if none has any.

    Args:
        records: `RoutingRecord`s with a leading step axis, or `()`.
    """
    records = [record for record in records if record]
    if len(records) < 2:
        return records[0] if records else ()
    fields = zip(*records, strict=True)
    return RoutingRecord(*(ops.concatenate(field) for field in fields))


def _merged(record):
    """(rounds, r, ...) -> (rounds * r, ...)."""
    if not record:
        return ()
    return RoutingRecord(
        *(ops.reshape(f, (f.shape[0] * f.shape[1], *ops.shape(f)[2:])) for f in record)
    )
