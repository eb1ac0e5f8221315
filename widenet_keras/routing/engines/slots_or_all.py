"""No drop in static shapes: places for somewhat more than the fair share, else all."""

import math

from keras import ops

from widenet_keras.routing.engines.all_experts import AllExperts
from widenet_keras.routing.engines.engine import Engine
from widenet_keras.routing.engines.slots import Slots

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
        choices, experts = demand.mask.shape[1], demand.mask.shape[3]
        mask = ops.reshape(
            ops.transpose(demand.mask, (1, 0, 2, 3)), (1, choices, -1, experts)
        )
        gates = ops.reshape(ops.transpose(demand.gates, (1, 0, 2)), (1, choices, -1))
        tokens = mask.shape[2]
        room = min(tokens, math.ceil(ROOM * choices * tokens / experts))
        self.fits = ops.all(ops.sum(mask, axis=(0, 1, 2)) <= room)
        self.slots = Slots(demand._replace(mask=mask, gates=gates, capacity=room))

    def mix(self, compute):
        """Returns the gated sum of each token's kept choices, (G * N, D)."""
        if self.all is None:
            return self.slots.mix(compute)
        return ops.cond(
            self.fits,
            lambda: self.slots.mix(compute),
            lambda: self.all.mix(compute),
        )
