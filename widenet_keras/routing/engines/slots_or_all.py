"""No drop in static shapes: places for somewhat more than the fair share, else all."""

import functools
import math

from keras import ops

from widenet_keras.routing.engines.all_experts import AllExperts
from widenet_keras.routing.engines.engine import Engine, queue
from widenet_keras.routing.engines.slots import Slots
from widenet_keras.routing.router import expert_of_choice

# Rooms of an expert, over its fair share of the whole batch's choices. A trained router
# of four experts sends the busiest one 1.09 of its share of 128 images, at most 1.21.
ROOMS = (1.125, 1.375)


class SlotsOrAll(Engine):
    """Costs the least of ROOMS that suffices, of the experts that are used, or all.

    Where sizes must be static and nothing may be dropped, there would have to be room
    for every token at every expert. A router that was trained to balance hardly ever
    needs it: places of the whole batch are shared, and only where an expert wants
    more than there are do all experts compute all tokens, and so they do in a graph of
    TensorFlow that does not know the size of the batch. With a capacity it is "slots".
    """

    def __init__(self, demand):
        self.demand = demand
        if demand.capacity is not None:
            self.slots, self.all = Slots(demand), None
            self.kept = self.slots.kept
            return
        self.all = AllExperts(demand)
        self.kept = self.all.kept
        groups, choices, tokens, experts = demand.mask.shape
        self.rooms = []
        if groups is None or tokens is None:
            return
        self.count = ops.sum(demand.mask, axis=(1, 2))  # (G, E)
        fair = choices * groups * tokens / experts
        rooms = {min(groups * tokens, math.ceil(room * fair)) for room in ROOMS}
        self.rooms = sorted(rooms)

    def mix(self, compute):
        """Returns the gated sum of each token's kept choices, (G * N, D)."""
        if self.all is None:
            return self.slots.mix(compute)
        if not self.rooms:
            return self.all.mix(compute)
        busiest = ops.max(ops.sum(self.count, axis=0))
        too_small = [ops.cast(busiest > room, "int32") for room in self.rooms]
        ways = [functools.partial(self._with, room) for room in self.rooms]
        ways.append(lambda: self.all)
        return ops.switch(sum(too_small), [lambda w=w: w().mix(compute) for w in ways])

    def _with(self, room):
        return _SharedSlots(self.demand, self.count, room)


class _SharedSlots(Slots):
    """Places that the whole batch shares, R of each expert, ordered (E, R).

    The choices of an expert stand image by image: counted within an image, and the
    images' counts among each other, which takes no sum or sort over all tokens.

    Args:
        demand: `Demand` without a capacity.
        count: (G, E) float32, the choices of a group.
        room: R, enough for every expert.
    """

    def __init__(self, demand, count, room):
        self.demand = demand
        mask = demand.mask
        groups, choices, tokens, experts = mask.shape
        within, self.kept = queue(demand._replace(capacity=choices * tokens))
        before = ops.cumsum(count, axis=0) - count
        before = ops.sum(mask * ops.expand_dims(before, (1, 2)), axis=-1)
        at = ops.reshape(ops.cast(within + before, "int32"), (-1,))
        wanted = ops.reshape(expert_of_choice(mask), (-1,))
        self.place_of_choice = wanted * room + ops.minimum(at, room - 1)
        # What goes to one place is added up, and a row without a choice goes to any.
        number = ops.arange(groups * choices * tokens, dtype="int32")
        number = number * ops.cast(ops.reshape(self.kept, (-1,)), "int32")
        self.choice_of_place = ops.scatter(
            ops.expand_dims(self.place_of_choice, 1), number, (experts * room,)
        )
        group = self.choice_of_place // (choices * tokens)
        self.token_of_place = group * tokens + self.choice_of_place % tokens
        wanted = ops.expand_dims(ops.sum(count, axis=0), 1)
        filled = ops.cast(ops.arange(room, dtype="float32") < wanted, "float32")
        self.filled = ops.reshape(filled, (-1, 1))
