"""Dispatch: places of experts filled with tokens, and results brought back.

`plan_places` decides who goes where; `dispatch` and `combine` move the rows.
Both moves are gathers, and so are their gradients: each is the adjoint of the
other, which a plain gather's gradient (a scatter-add) would not exploit.
"""

import math
from fractions import Fraction
from typing import NamedTuple

import keras
from keras import ops


def capacity_for(tokens, num_experts, top_k, capacity_factor):
    """Returns ceil(C * K * T / E), the most tokens that an expert takes.

    The factor is read as the decimal it is written as: in binary floating
    point 1.1 * 2 * 10 / 2 is a little over 11 and its ceiling 12.

    Args:
        tokens: T, tokens that share the capacity.
        num_experts: E.
        top_k: K.
        capacity_factor: C; 1.0 has room for exactly the fair share.
    """
    places = math.ceil(
        Fraction(str(capacity_factor)) * top_k * tokens / Fraction(num_experts)
    )
    # No token chooses an expert twice, so more than T places stay empty.
    return min(places, tokens)


class Places(NamedTuple):
    """Where every choice goes. R = E * G * C places, ordered (E, G, C).

    Attributes:
        token_of_place: (R,) int32, row of the token at each place.
        choice_of_place: (R,) int32, row of the choice at each place.
        filled: (R, 1) float32, 1 where the place is taken.
        place_of_choice: (G * K * N,) int32, row of the place of each choice; any
            valid row where the choice was dropped.
        kept: (G, K, N) float32, 1 where the choice found a place.
        capacity: C.
    """

    token_of_place: object
    choice_of_place: object
    filled: object
    place_of_choice: object
    kept: object
    capacity: int


def plan_places(mask, capacity, limit=None):
    """Queues the choices of each group and returns their `Places`.

    All first choices of a group queue before any second choice, tokens in
    order; a choice that finds its expert full is dropped.

    Args:
        mask: (G, K, N, E) one-hot choices; rows of zeros choose nothing.
        capacity: C, places of an expert in a group.
        limit: (G,) float32, places that may be used where a group is smaller
            than the others; None for C.
    """
    choices, tokens, experts = mask.shape[1:]
    queue = choices * tokens
    groups = ops.shape(mask)[0]
    group = ops.expand_dims(ops.arange(groups, dtype="int32"), 1)
    flat = ops.reshape(mask, (-1, queue, experts))
    index = ops.arange(experts, dtype="float32")

    # Counting in float32 is exact up to 2^24 choices of one group.
    ahead = ops.sum((ops.cumsum(flat, axis=1) - 1.0) * flat, axis=-1)
    chosen = ops.sum(flat, axis=-1)
    wanted = ops.cast(ops.sum(flat * index, axis=-1), "int32")
    room = float(capacity) if limit is None else ops.expand_dims(limit, 1)
    kept = chosen * ops.cast(ahead < room, "float32")
    position = ops.minimum(ops.cast(ahead, "int32"), capacity - 1)
    place_of_choice = (wanted * groups + group) * capacity + position

    # Sorted by expert, and by place in the queue within an expert, the choices
    # of expert e stand in one run that starts where those of e - 1 end.
    key = ops.where(chosen > 0, wanted, experts) * queue
    order = ops.argsort(key + ops.arange(queue, dtype="int32"), axis=1)
    count = ops.sum(flat, axis=1)
    start = ops.cumsum(count, axis=1) - count
    place = ops.arange(capacity, dtype="float32")
    at = ops.expand_dims(start, -1) + place
    if limit is not None:
        count = ops.minimum(count, ops.expand_dims(limit, 1))
    filled = ops.cast(place < ops.expand_dims(count, -1), "float32")
    at = ops.minimum(ops.cast(at, "int32"), queue - 1)
    source = ops.take_along_axis(
        ops.cast(order, "int32"), ops.reshape(at, (-1, experts * capacity)), axis=1
    )

    def expert_major(rows):
        rows = ops.reshape(rows, (-1, experts, capacity))
        return ops.reshape(ops.transpose(rows, (1, 0, 2)), (-1,))

    return Places(
        token_of_place=expert_major(group * tokens + source % tokens),
        choice_of_place=expert_major(group * queue + source),
        filled=ops.expand_dims(expert_major(filled), -1),
        place_of_choice=ops.reshape(place_of_choice, (-1,)),
        kept=ops.reshape(kept, (-1, choices, tokens)),
        capacity=capacity,
    )


def dispatch(tokens, places):
    """Returns the token at each place, (R, D).

    Args:
        tokens: (G * N, D).
        places: `Places`.
    """
    kept = ops.cast(ops.expand_dims(places.kept, -1), tokens.dtype)

    @keras.ops.custom_gradient
    def gather(rows):
        def gradient(*args, upstream=None):
            upstream = args[0] if upstream is None else upstream
            each = ops.take(upstream, places.place_of_choice, axis=0)
            each = ops.reshape(each, (*choice_shape(places), rows.shape[-1])) * kept
            return ops.reshape(ops.sum(each, axis=1), (-1, rows.shape[-1]))

        return ops.take(rows, places.token_of_place, axis=0), gradient

    return gather(tokens)


def combine(outputs, gates, places):
    """Returns the gated sum of each token's kept choices, (G, N, D).

    Args:
        outputs: (R, D), what the experts made of the places.
        gates: (G, K, N) float32.
        places: `Places`.
    """
    filled = ops.cast(places.filled, outputs.dtype)

    @keras.ops.custom_gradient
    def gather(rows):
        def gradient(*args, upstream=None):
            upstream = args[0] if upstream is None else upstream
            return ops.take(upstream, places.choice_of_place, axis=0) * filled

        return ops.take(rows, places.place_of_choice, axis=0), gradient

    each = gather(outputs)
    each = ops.reshape(each, (*choice_shape(places), outputs.shape[-1]))
    weight = ops.cast(gates * places.kept, outputs.dtype)
    return ops.sum(each * ops.expand_dims(weight, -1), axis=1)


def choice_shape(places):
    """Returns (-1, K, N), the shape of a choice table for any number of groups."""
    return (-1, *places.kept.shape[1:])
