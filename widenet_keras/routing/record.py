"""What routing did, returned beside the tokens and never hidden in a layer."""

from typing import NamedTuple

import keras

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
        experts: (B, K, T) int32, chosen experts, best first.
        gates: (B, K, T) float32, probability of each choice.
        dropped: () float32, fraction of the choices over capacity.
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


def facts_spec(batch, length, router):
    """Returns the `RoutingFacts` of one step as `keras.KerasTensor`s.

    The one place that says which shapes and dtypes a step hands out.

    Args:
        batch: B, or None.
        length: T.
        router: `RouterSpec`.
    """
    scores, choices = (
        (batch, length, router.num_experts),
        (batch, router.top_k, length),
    )
    return RoutingFacts(
        logits=keras.KerasTensor(scores, "float32"),
        probabilities=keras.KerasTensor(scores, "float32"),
        experts=keras.KerasTensor(choices, "int32"),
        gates=keras.KerasTensor(choices, "float32"),
        dropped=keras.KerasTensor((), "float32"),
    )


def record_of(facts, softmaxes=1):
    """Returns the `RoutingRecord` of facts, of one step or of S of them stacked.

    Made once for all steps, so that a step computes nothing that only the end needs.

    Args:
        facts: `RoutingFacts`.
        softmaxes: How many softmaxes make up the probabilities of a token.
    """
    fraction = expert_fraction(facts.experts, facts.logits.shape[-1])
    probability = mean_probability(facts.probabilities, softmaxes)
    return RoutingRecord(
        balance_loss=balance_of(fraction, probability),
        z_loss=router_z_loss(facts.logits),
        expert_fraction=fraction,
        mean_probability=probability,
        dropped_fraction=facts.dropped,
        experts=facts.experts,
        gates=facts.gates,
    )


def record_spec(facts, steps=None):
    """Returns the `RoutingRecord` of facts as `keras.KerasTensor`s.

    Args:
        facts: `RoutingFacts` of `KerasTensor`s, of one step.
        steps: S for a leading axis of steps, or None.
    """
    lead = () if steps is None else (steps,)
    experts = facts.logits.shape[-1]

    def spec(*shape, dtype="float32"):
        return keras.KerasTensor((*lead, *shape), dtype)

    return RoutingRecord(
        balance_loss=spec(),
        z_loss=spec(),
        expert_fraction=spec(experts),
        mean_probability=spec(experts),
        dropped_fraction=spec(),
        experts=spec(*facts.experts.shape, dtype="int32"),
        gates=spec(*facts.gates.shape),
    )
