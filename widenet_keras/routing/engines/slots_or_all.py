"""No drop in static shapes: places for somewhat more than the fair share, else all."""

import math

from keras import ops

from widenet_keras.routing.engines.all_experts import AllExperts
from widenet_keras.routing.engines.engine import Engine, queue
from widenet_keras.routing.engines.slots import Slots
from widenet_keras.routing.router import expert_of_choice

# Room of an expert over its fair share of the whole batch's choices.
ROOM = 1.25


class SlotsOrAll(Engine):
    """Costs ROOM times the experts that are used, or all of them if one overflows.

    Where sizes must be static and nothing may be dropped, there would have to be room
    for every token at every expert. A router that was trained to balance hardly ever
    needs it: places of the whole batch are shared, and only where an expert wants
    more than it has do all experts compute all tokens. With a capacity it is "slots".
    """

    def __init__(self, demand):
        self.demand = demand
        if demand.capacity is not None:
            self.slots, self.all = Slots(demand), None
            self.kept = self.slots.kept
            return
        self.all = AllExperts(demand)
        self.kept = self.all.kept
        self.slots = _SharedSlots(demand)
        self.fits = self.slots.fits

    def mix(self, compute):
        """Returns the gated sum of each token's kept choices, (G * N, D)."""
        if self.all is None:
            return self.slots.mix(compute)
        return ops.cond(
            self.fits,
            lambda: self.slots.mix(compute),
            lambda: self.all.mix(compute),
        )


class _SharedSlots(Slots):
    """Places that the whole batch shares, R of each expert, ordered (E, R).

    The choices of an expert stand image by image: counted within an image, and the
    images' counts among each other, which takes no sum or sort over all tokens.

    Attributes:
        fits: Whether no expert wants more; else what is computed is not to be used.
    """

    def __init__(self, demand):
        self.demand = demand
        mask = demand.mask
        choices, tokens, experts = mask.shape[1:]
        everything = mask.shape[0] * tokens
        room = min(everything, math.ceil(ROOM * choices * everything / experts))
        within, self.kept = queue(demand._replace(capacity=choices * tokens))
        count = ops.sum(mask, axis=(1, 2))  # (G, E)
        before = ops.cumsum(count, axis=0) - count
        self.fits = ops.all(ops.sum(count, axis=0) <= room)
        before = ops.sum(mask * ops.expand_dims(before, (1, 2)), axis=-1)
        at = ops.reshape(ops.cast(within + before, "int32"), (-1,))
        wanted = ops.reshape(expert_of_choice(mask), (-1,))
        self.place_of_choice = wanted * room + ops.minimum(at, room - 1)
        # What goes to one place is added up, and a row without a choice goes to any.
        number = ops.arange(everything * choices, dtype="int32")
        number = number * ops.cast(ops.reshape(self.kept, (-1,)), "int32")
        self.choice_of_place = ops.scatter(
            ops.expand_dims(self.place_of_choice, 1), number, (experts * room,)
        )
        group = self.choice_of_place // (choices * tokens)
        self.token_of_place = group * tokens + self.choice_of_place % tokens
        filled = ops.arange(room, dtype="float32") < ops.expand_dims(
            ops.sum(count, axis=0), 1
        )
        self.filled = ops.reshape(ops.cast(filled, "float32"), (-1, 1))
