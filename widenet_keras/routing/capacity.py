"""How many tokens an expert may take, and which images share that room."""

import math
from fractions import Fraction
from typing import NamedTuple

from keras import ops

from widenet_keras.utils.checks import check_positive


class Demand(NamedTuple):
    """What the tokens of G groups want from the experts.

    Attributes:
        tokens: (G * N, D).
        mask: (G, K, N, E) one-hot choices; rows of zeros choose nothing.
        gates: (G, K, N) float32.
        capacity: C, places of an expert in a group; None for no limit.
        limit: (G,) float32, places that may be used where a group is smaller
            than the others; None for C.
    """

    tokens: object
    mask: object
    gates: object
    capacity: int | None = None
    limit: object = None


def capacity_for(
    tokens: int, num_experts: int, top_k: int, capacity_factor: float
) -> int:
    """Returns ceil(C * K * T / E), the most tokens that an expert takes.

    The factor is read as the decimal it is written as, or the simple fraction it was
    computed as: in binary floating point 1.1 * 2 * 10 / 2 is a little over 11 and its
    ceiling 12, and so is 1.25 / 3.

    Args:
        tokens: T, tokens that share the capacity.
        num_experts: E.
        top_k: K.
        capacity_factor: C; 1.0 has room for exactly the fair share.
    """
    factor = Fraction(str(capacity_factor)).limit_denominator(10**6)
    places = max(1, math.ceil(factor * top_k * tokens / Fraction(num_experts)))
    # No token chooses an expert twice, so more than T places stay empty.
    return min(places, tokens)


def check_capacity(owner, capacity_factor):
    """Raises `ValueError` unless the factor is None or a number > 0."""
    if capacity_factor is not None:
        check_positive(
            owner, "capacity_factor", capacity_factor, ", or None to drop nothing"
        )


def demand_of(tokens, choices, capacity_factor=None, images_per_group=1):
    """Returns the `Demand` of a batch; the last group is padded with nothing.

    Args:
        tokens: (B, T, D).
        choices: `Choices` of the tokens.
        capacity_factor: C's factor; None drops nothing.
        images_per_group: Images that share a capacity. A last, smaller group
            gets the capacity of the images it has.
    """
    length, width = tokens.shape[1:]
    top_k, experts = choices.mask.shape[1], choices.mask.shape[3]
    rows = ops.reshape(tokens, (-1, width))
    if capacity_factor is None:
        return Demand(rows, choices.mask, choices.gates)

    def capacity(images):
        return capacity_for(images * length, experts, top_k, capacity_factor)

    if images_per_group == 1:
        return Demand(rows, choices.mask, choices.gates, capacity(1))
    batch, size = ops.shape(tokens)[0], images_per_group
    if isinstance(batch, int):
        size = min(size, batch)
    missing = -batch % size
    table = [0, *(capacity(images) for images in range(1, size + 1))]
    first = ops.arange(0, batch, size, dtype="int32")
    return Demand(
        ops.pad(rows, ((0, missing * length), (0, 0))),
        _grouped(choices.mask, size, missing),
        _grouped(choices.gates, size, missing),
        capacity(size),
        ops.take(
            ops.convert_to_tensor(table, dtype="float32"),
            ops.minimum(batch - first, size),
            axis=0,
        ),
    )


def _grouped(choices, size, missing):
    """(B, K, T, ...) -> (G, K, size * T, ...), padded with choices of nothing."""
    rest = choices.shape[3:]
    top_k, tokens = choices.shape[1:3]
    choices = ops.pad(choices, ((0, missing), *((0, 0) for _ in choices.shape[1:])))
    choices = ops.reshape(choices, (-1, size, top_k, tokens, *rest))
    choices = ops.moveaxis(choices, 2, 1)
    return ops.reshape(choices, (-1, top_k, size * tokens, *rest))
