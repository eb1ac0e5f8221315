"""What every dispatch engine does, and the queue in front of an expert."""

from keras import ops


class Engine:
    """Brings tokens to their experts and the results back.

    `mix` is `dispatch`, the experts on its rows (with `sizes`), `combine`. All
    engines keep and drop the same choices and give the same numbers; they
    differ in what they cost where.

    Args:
        demand: `Demand` of the tokens.

    Attributes:
        one_by_one: Whether each expert computes rows of its own number, in runs or
            in a list, of the class.
        sizes: None where the rows of `dispatch` are stacked by expert, or (E,)
            int32, the rows of each expert where they stand in runs.
        kept: (G, K, N) float32, 1 where a choice is served.
    """

    one_by_one = False
    sizes = None

    def __init__(self, demand):
        self.demand = demand
        self.ahead, self.kept = queue(demand)

    def mix(self, compute):
        """Returns the gated sum of each token's kept choices, (G * N, D).

        Args:
            compute: Function of rows and sizes that applies the experts.
        """
        rows = self.dispatch(self.demand.tokens)
        return self.combine(compute(rows, self.sizes))

    def dispatch(self, tokens):
        """Returns the rows for the experts: (E, R, D), (1, R, D) or (R, D).

        Args:
            tokens: (G * N, D).
        """
        raise NotImplementedError

    def combine(self, outputs):
        """Returns the gated sum of each token's kept choices, (G * N, D).

        Args:
            outputs: What the experts made of the rows: (E, R, D) or (R, D).
        """
        raise NotImplementedError

    def dropped_fraction(self):
        """Returns the fraction of the choices that are not served, a scalar."""
        if self.demand.capacity is None:
            return ops.zeros((), dtype="float32")
        served = ops.sum(self.kept) / ops.sum(self.demand.mask)
        return 1.0 - ops.stop_gradient(served)


def queue(demand):
    """Queues the choices of each group; those that find their expert full drop.

    All first choices of a group queue before any second choice, tokens in
    order.

    Args:
        demand: `Demand`.

    Returns:
        How many stand ahead of each choice, (G, K, N) float32, or None where
        there is no limit; and which are kept, (G, K, N) float32.
    """
    choices, tokens, experts = demand.mask.shape[1:]
    chosen = ops.sum(demand.mask, axis=-1)
    if demand.capacity is None:
        return None, chosen
    flat = ops.reshape(demand.mask, (-1, choices * tokens, experts))
    # Counting in float32 is exact up to 2^24 choices of one group.
    ahead = ops.sum((ops.cumsum(flat, axis=1) - 1.0) * flat, axis=-1)
    ahead = ops.reshape(ahead, (-1, choices, tokens))
    room = float(demand.capacity)
    if demand.limit is not None:
        room = ops.reshape(demand.limit, (-1, 1, 1))
    return ahead, chosen * ops.cast(ahead < room, "float32")


def gated_sum(each, gates, kept):
    """Returns the gated sum over the choices of a token, (G * N, D).

    Args:
        each: (G * K * N, D), the result of each choice.
        gates: (G, K, N) float32.
        kept: (G, K, N) float32.
    """
    width = each.shape[-1]
    each = ops.reshape(each, (-1, *kept.shape[1:], width))
    weight = ops.expand_dims(ops.cast(gates * kept, each.dtype), -1)
    return ops.reshape(ops.sum(each * weight, axis=1), (-1, width))
