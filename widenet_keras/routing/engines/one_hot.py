"""Places of experts filled by products with one-hot matrices, group by group."""

from keras import ops

from widenet_keras.routing.engines.engine import Engine


class OneHot(Engine):
    """Dense products only, which TPUs like and which shard over the groups.

    An index into the whole batch makes SPMD partitioners gather the batch on
    every device; a product per group stays on the group's device. It costs
    2 * E * C * D per token of a group, so groups should stay small: one image.
    Source: GShard's dispatch, per group as in V-MoE.
    """

    def __init__(self, demand):
        if demand.capacity is None:
            # Room for all: nobody is dropped, at the cost of all experts.
            demand = demand._replace(capacity=demand.mask.shape[2])
        super().__init__(demand)
        tokens = demand.mask.shape[2]
        ahead = ops.minimum(ops.cast(self.ahead, "int32"), demand.capacity - 1)
        place = ops.one_hot(ahead, demand.capacity, dtype="float32")
        place = place * ops.expand_dims(self.kept, -1)  # (G, K, N, C)
        # (G, K, N, E, 1) * (G, K, N, 1, C) -> (G, K, N, EC)
        place = ops.expand_dims(demand.mask, -1) * ops.expand_dims(place, -2)
        slots = demand.mask.shape[-1] * demand.capacity
        self.place = ops.reshape(place, (-1, demand.mask.shape[1], tokens, slots))

    def dispatch(self, tokens):
        """Returns the token at each place, zeros where none is, (E, G * C, D)."""
        experts, capacity = self.demand.mask.shape[-1], self.demand.capacity
        width = tokens.shape[-1]
        chosen = ops.stop_gradient(ops.sum(self.place, axis=1))  # (G, N, EC)
        tokens = ops.reshape(tokens, (-1, self.place.shape[2], width))
        chosen = ops.cast(ops.transpose(chosen, (0, 2, 1)), tokens.dtype)
        rows = ops.reshape(ops.matmul(chosen, tokens), (-1, experts, capacity, width))
        return ops.reshape(ops.transpose(rows, (1, 0, 2, 3)), (experts, -1, width))

    def combine(self, outputs):
        """Returns the gated sum of each token's kept choices, (G * N, D)."""
        experts, capacity = self.demand.mask.shape[-1], self.demand.capacity
        width = outputs.shape[-1]
        outputs = ops.reshape(outputs, (experts, -1, capacity, width))
        outputs = ops.transpose(outputs, (1, 0, 2, 3))
        outputs = ops.reshape(outputs, (-1, experts * capacity, width))
        gates = ops.expand_dims(self.demand.gates, -1)
        weight = ops.cast(ops.sum(self.place * gates, axis=1), outputs.dtype)
        return ops.reshape(ops.matmul(weight, outputs), (-1, width))
