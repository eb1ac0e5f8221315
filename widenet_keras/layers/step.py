"""A step of the depth: what it computes, and what it hands out.

A step is a static `Plan` and a tree of tensors, `Private`, whose leaves are stacked
over the steps and ride through the loop over the depth by name.
"""

from typing import NamedTuple

import keras

from widenet_keras.layers.block_math import block
from widenet_keras.layers.groups import Groups
from widenet_keras.layers.heads import Heads
from widenet_keras.layers.pieces.step_pieces import StepPieces
from widenet_keras.routing.random_draws import RandomDraws
from widenet_keras.routing.record import RoutingFacts, facts_spec


class Seen(NamedTuple):
    """What steps that are looked at computed with; stacked over them, (S', ...).

    Attributes:
        tokens: (B, T, D) after the step.
        heads: `Heads` of its attention, each (B, T, H, d); of n parallel paths (B, T,
            n H, d), those of the first in front.
    """

    tokens: object
    heads: Heads


class Outputs(NamedTuple):
    """What a step returns beside the tokens; absent parts are `()`.

    Attributes:
        facts: `RoutingFacts` of a mixture of experts.
        seen: `Seen` of a step that is looked at.
    """

    facts: RoutingFacts | tuple = ()
    seen: Seen | tuple = ()


def step(tokens, private, weights, spec, plan, pieces):
    """Returns the tokens after a step, (B, T, D), and its `Outputs`.

    Args:
        tokens: (B, T, D).
        private: `Private` of this step, without leading axes.
        weights: `BlockWeights` of the block that it reads; `()` of one without, whose
            steps have their own.
        spec: `BlockSpec` of that block.
        plan: `Plan` of the step; which block it reads is done with.
        pieces: Tuple of `Piece`s.
    """
    seed, drop_path = private.seed, private.drop_path
    draws = RandomDraws(None if isinstance(seed, tuple) else seed)
    weights = private.weights or weights
    if plan.hidden is not None:
        weights = weights.narrowed(plan.hidden, spec)
    groups = Groups(plan.groups, private.order if plan.permutes else ())
    tokens, facts, heads = block(
        tokens,
        private.norms,
        weights,
        spec,
        draws,
        0.0 if isinstance(drop_path, tuple) else drop_path,
        StepPieces.of(pieces, private.pieces, draws),
        private.share,
        groups,
    )
    seen = ()
    if plan.looked_at:
        seen = Seen(tokens, groups.heads_together(heads.tokens_first()))
    return tokens, Outputs(facts, seen)


def outputs_spec(tokens, spec, plan):
    """Returns the `Outputs` of a step as `keras.KerasTensor`s.

    Args:
        tokens: (B, T, D), or its spec.
        spec: As for `step`.
        plan: `Plan` of the step.
    """
    batch, length, width = tokens.shape
    dtype = keras.backend.standardize_dtype(tokens.dtype)
    facts, seen = (), ()
    if spec.is_routed and spec.feed_forward.hands_out:
        part = spec.feed_forward
        has_capacity = part.capacity_factor is not None
        facts = facts_spec(batch, length, part.router, has_capacity)
    if plan.looked_at:
        heads, key_dim, value_dim = spec.heads
        heads = Heads(
            *(
                keras.KerasTensor((batch, length, heads, size), dtype)
                for size in (key_dim, key_dim, value_dim)
            )
        )
        seen = Seen(keras.KerasTensor((batch, length, width), dtype), heads)
    return Outputs(facts, seen)


def specs_of_steps(tokens, plans, specs):
    """Returns what some steps hand out as `keras.KerasTensor`s: all facts, all seen.

    Args:
        tokens: As for `outputs_spec`.
        plans: `Plan`s of the steps.
        specs: `BlockSpec` of each block.
    """
    found = [outputs_spec(tokens, specs[plan.block], plan) for plan in plans]
    return [each.facts for each in found if each.facts], [
        each.seen for each in found if each.seen
    ]
