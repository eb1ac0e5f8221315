"""What routing did, returned beside the tokens and never hidden in a layer."""

from typing import NamedTuple

from keras import ops


class RoutingRecord(NamedTuple):
    """Facts of routing, of one step or of S steps stacked on a leading axis.

    Attributes:
        balance_loss: (S,) balance loss, 1.0 at perfect balance.
        z_loss: (S,) router z-loss, before its weight.
        expert_fraction: (S, E) fraction of the choices that went to each expert,
            before any is dropped; sums to 1.
        mean_probability: (S, E) mean router probability of each expert; sums to 1.
        dropped_fraction: (S,) fraction of the choices over capacity.
        experts: (S, B, K, T) int32, chosen experts, best first.
        gates: (S, B, K, T) probability of each choice.
    """

    balance_loss: object
    z_loss: object
    expert_fraction: object
    mean_probability: object
    dropped_fraction: object
    experts: object
    gates: object


def stack_records(records):
    """Returns one `RoutingRecord` whose fields have a leading step axis.

    Args:
        records: One record per mixture-of-experts step, in order.
    """
    return RoutingRecord(*(ops.stack(field) for field in zip(*records, strict=True)))
