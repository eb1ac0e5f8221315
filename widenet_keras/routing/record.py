"""What routing did, returned beside the tokens and never hidden in a layer."""

from typing import NamedTuple

import keras
from keras import ops

from widenet_keras.routing.losses import (
    balance_of,
    expert_fraction,
    mean_probability,
    router_z_loss,
)


class RoutingFacts(NamedTuple):
    """What one step of a mixture of experts hands out, before any statistics.

    Attributes:
        logits: (B, T, E) float32 of the router, before noise.
        probabilities: (B, T, E) float32, after noise and softmax.
        experts: (B, T, K) int, chosen experts, best first; in the order of the groups
            for `GroupedTop1Router`.
        gates: (B, T, K) float32, probability of each choice.
        dropped: () float32, fraction of the choices over capacity; absent where
            there is none.
    """

    logits: object
    probabilities: object
    experts: object
    gates: object
    dropped: object


class RoutingRecord(NamedTuple):
    """Facts of routing, of one step or of S steps stacked on a leading axis.

    Attributes:
        balance_loss: (S,) balance loss, 1.0 at perfect balance.
        z_loss: (S,) router z-loss, before its weight.
        expert_fraction: (S, E) fraction of the choices that went to each expert,
            before any is dropped; sums to 1.
        mean_probability: (S, E) mean router probability of each expert; sums to 1.
        dropped_fraction: (S,) fraction of the choices over capacity.
        experts: (S, B, K, T) int32, chosen experts, best first; in the order of the
            groups for `GroupedTop1Router`.
        gates: (S, B, K, T) probability of each choice.
    """

    balance_loss: object
    z_loss: object
    expert_fraction: object
    mean_probability: object
    dropped_fraction: object
    experts: object
    gates: object


def facts_spec(batch, length, router, has_capacity):
    """Returns the `RoutingFacts` of one step as `keras.KerasTensor`s.

    The one place that says which shapes and dtypes a step hands out.

    Args:
        batch: B, or None.
        length: T.
        router: `RouterSpec`.
        has_capacity: Whether experts take a limited number of tokens.
    """
    scores, choices = (
        (batch, length, router.num_experts),
        (batch, length, router.top_k),
    )
    return RoutingFacts(
        logits=keras.KerasTensor(scores, "float32"),
        probabilities=keras.KerasTensor(scores, "float32"),
        experts=keras.KerasTensor(choices, "int32"),
        gates=keras.KerasTensor(choices, "float32"),
        dropped=keras.KerasTensor((), "float32") if has_capacity else (),
    )


def record_of(facts, softmaxes=1):
    """Returns the `RoutingRecord` of facts, of one step or of S of them stacked.

    Made once for all steps, so that a step computes nothing that only the end needs.

    Args:
        facts: `RoutingFacts`.
        softmaxes: How many softmaxes make up the probabilities of a token.
    """
    experts = ops.swapaxes(ops.cast(facts.experts, "int32"), -1, -2)
    fraction = expert_fraction(experts, facts.logits.shape[-1])
    probability = mean_probability(facts.probabilities, softmaxes)
    return RoutingRecord(
        balance_loss=balance_of(fraction, probability),
        z_loss=router_z_loss(facts.logits),
        expert_fraction=fraction,
        mean_probability=probability,
        dropped_fraction=_dropped(facts),
        experts=experts,
        gates=ops.swapaxes(facts.gates, -1, -2),
    )


def _dropped(facts):
    """Returns the fraction of the choices that were dropped, (...,)."""
    if isinstance(facts.dropped, tuple):
        return ops.zeros(facts.logits.shape[:-3], dtype="float32")
    return facts.dropped


def over_replicas(record, share, total):
    """Returns a record with the routing of the global batch.

    The balance loss is not linear in the images, so that the mean of the
    replicas' own losses would be another one. With f of all images and P of
    its own, each replica's loss is its part of the whole.

    Args:
        record: `RoutingRecord` of this replica's images, or `()`.
        share: Part of the global batch's images that this replica has.
        total: Function that sums a tensor over the replicas.
    """
    if not record:
        return record
    fraction = total(share * record.expert_fraction)
    return record._replace(
        expert_fraction=fraction,
        balance_loss=balance_of(fraction, record.mean_probability),
    )


def record_spec(facts, steps=None):
    """Returns the `RoutingRecord` of facts as `keras.KerasTensor`s.

    Args:
        facts: `RoutingFacts` of `KerasTensor`s, of one step.
        steps: S for a leading axis of steps, or None.
    """
    lead = () if steps is None else (steps,)
    experts = facts.logits.shape[-1]
    batch, length, top_k = facts.gates.shape

    def spec(*shape, dtype="float32"):
        return keras.KerasTensor((*lead, *shape), dtype)

    return RoutingRecord(
        balance_loss=spec(),
        z_loss=spec(),
        expert_fraction=spec(experts),
        mean_probability=spec(experts),
        dropped_fraction=spec(),
        experts=spec(batch, top_k, length, dtype="int32"),
        gates=spec(batch, top_k, length),
    )
