"""Places of experts filled by gathering, for compilers that want static shapes."""

from keras import ops

from widenet_keras.routing.engines.engine import Engine, gated_sum
from widenet_keras.routing.engines.gather import gather
from widenet_keras.routing.router import expert_of_choice


class Slots(Engine):
    """E * G * C places, ordered (E, G, C), each with the token that goes there.

    Costs C * E / K of the experts that are used, whether places are taken or
    not. `dispatch` and `combine` are gathers, and so are their gradients: each
    is the adjoint of the other.
    """

    def __init__(self, demand):
        if demand.capacity is None:
            # Room for all: nobody is dropped, at the cost of all experts.
            demand = demand._replace(capacity=demand.mask.shape[2])
        super().__init__(demand)
        mask, capacity = demand.mask, demand.capacity
        choices, tokens, experts = mask.shape[1:]
        queue = choices * tokens
        groups = ops.shape(mask)[0]
        group = ops.expand_dims(ops.arange(groups, dtype="int32"), 1)
        flat = ops.reshape(mask, (-1, queue, experts))
        wanted = ops.reshape(expert_of_choice(mask), (-1, queue))
        ahead = ops.reshape(ops.cast(self.ahead, "int32"), (-1, queue))
        chosen = ops.sum(flat, axis=-1)
        place = (wanted * groups + group) * capacity + ops.minimum(ahead, capacity - 1)
        # Any valid row where the choice was dropped: `kept` is 0 there.
        self.place_of_choice = ops.reshape(place, (-1,))

        # Sorted by expert, and by place in the queue within an expert, the choices
        # of expert e stand in one run that starts where those of e - 1 end.
        key = ops.where(chosen > 0, wanted, experts) * queue
        order = ops.argsort(key + ops.arange(queue, dtype="int32"), axis=1)
        count = ops.sum(flat, axis=1)
        start = ops.cumsum(count, axis=1) - count
        place = ops.arange(capacity, dtype="float32")
        at = ops.expand_dims(start, -1) + place
        if demand.limit is not None:
            count = ops.minimum(count, ops.expand_dims(demand.limit, 1))
        filled = ops.cast(place < ops.expand_dims(count, -1), "float32")
        at = ops.minimum(ops.cast(at, "int32"), queue - 1)
        source = ops.take_along_axis(
            ops.cast(order, "int32"), ops.reshape(at, (-1, experts * capacity)), axis=1
        )
        self.token_of_place = self._by_expert(group * tokens + source % tokens)
        self.choice_of_place = self._by_expert(group * queue + source)
        self.filled = ops.expand_dims(self._by_expert(filled), -1)

    def dispatch(self, tokens):
        """Returns the token at each place, (E, G * C, D)."""
        rows = gather(
            tokens,
            self.token_of_place,
            self.place_of_choice,
            weight=ops.reshape(self.kept, (-1, 1)),
            fold=self.kept.shape[1:],
        )
        return ops.reshape(rows, (self.demand.mask.shape[-1], -1, tokens.shape[-1]))

    def combine(self, outputs):
        """Returns the gated sum of each token's kept choices, (G * N, D)."""
        each = gather(
            ops.reshape(outputs, (-1, outputs.shape[-1])),
            self.place_of_choice,
            self.choice_of_place,
            weight=self.filled,
        )
        return gated_sum(each, self.demand.gates, self.kept)

    def _by_expert(self, rows):
        """(G, E * C) -> (E * G * C,)."""
        experts = self.demand.mask.shape[-1]
        rows = ops.reshape(rows, (-1, experts, self.demand.capacity))
        return ops.reshape(ops.transpose(rows, (1, 0, 2)), (-1,))
