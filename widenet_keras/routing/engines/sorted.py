"""Choices sorted by expert: each expert computes its own rows and no others."""

from keras import ops

from widenet_keras.routing.engines.engine import Engine, gated_sum
from widenet_keras.routing.engines.gather import gather
from widenet_keras.routing.router import expert_of_choice


class Sorted(Engine):
    """The exact cost of the choices that are served, however uneven they are.

    The rows of expert e stand in one run of `sizes[e]`, after those of e - 1;
    behind the last run stand those of dropped choices, which nobody computes.
    Dispatch and combine move rows by one permutation, and their gradients by
    its inverse, so nothing is scattered. Source: MegaBlocks' and ScatterMoE's
    dropless dispatch; the inverse gather is MaxText's `custom_sort_vjp`.
    """

    one_by_one = True

    def __init__(self, demand):
        super().__init__(demand)
        mask = demand.mask
        choices, tokens, experts = mask.shape[1:]
        expert = ops.where(self.kept > 0, expert_of_choice(mask), experts)
        order = _stable_order(ops.reshape(expert, (-1,)))
        self.choice_of_row = order
        self.row_of_choice = ops.cast(ops.argsort(order), "int32")
        group, token = order // (choices * tokens), order % tokens
        self.token_of_row = group * tokens + token
        served = mask * ops.expand_dims(self.kept, -1)
        self.sizes = ops.cast(ops.sum(served, axis=(0, 1, 2)), "int32")

    def dispatch(self, tokens):
        """Returns the token of each served choice, sorted by expert, (GKN, D)."""
        return gather(
            tokens, self.token_of_row, self.row_of_choice, fold=self.kept.shape[1:]
        )

    def combine(self, outputs):
        """Returns the gated sum of each token's kept choices, (G * N, D)."""
        each = gather(outputs, self.row_of_choice, self.choice_of_row)
        return gated_sum(each, self.demand.gates, self.kept)


def _stable_order(key):
    """Returns the order that sorts small integers, equal ones as they stand.

    Args:
        key: (M,) int32 from 0 to E.
    """
    rows = ops.shape(key)[0]
    # Not every backend's argsort is stable; unique keys make any of them so.
    unique = ops.cast(key, "int32") * rows + ops.arange(rows, dtype="int32")
    return ops.cast(ops.argsort(unique), "int32")
