"""A step of the depth: its plan, what it keeps for itself, and what it hands out.

A step is a static `Plan` and a tree of tensors, `Private`, whose leaves are stacked
over the steps and ride through the loop over the depth by name.
"""

from typing import NamedTuple

from widenet_keras.layers.attention import Heads
from widenet_keras.layers.normalization import StepNorms
from widenet_keras.routing.record import RoutingFacts


class Private(NamedTuple):
    """What a step keeps for itself; leading axes are stacked over the steps.

    What is absent is `()`, which has no leaves, and so takes no other's place.

    Attributes:
        norms: `StepNorms`, each (..., D).
        seed: (..., 2), seed of its `RandomDraws`; absent if nothing is drawn.
        drop_path: (...,), rate of dropped paths; absent for 0.
        pieces: Tuple of a NamedTuple of weights for each piece.
    """

    norms: StepNorms
    seed: object = ()
    drop_path: object = ()
    pieces: tuple = ()


class Plan(NamedTuple):
    """What is known of a step before anything is compiled; it cuts the depth.

    Attributes:
        block: Index of the unique block that it reads.
        looked_at: Whether it returns what it computed with.
    """

    block: int
    looked_at: bool = False


class Seen(NamedTuple):
    """What steps that are looked at computed with; stacked over them, (S', ...).

    Attributes:
        tokens: (B, T, D) after the step.
        heads: `Heads` of its attention, each (B, T, H, d).
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


class Segment(NamedTuple):
    """Neighbouring steps that repeat one pattern of plans.

    Attributes:
        first: Index of its first step.
        pattern: Plans of one round, p of them.
        rounds: How often the pattern is repeated.
    """

    first: int
    pattern: tuple[Plan, ...]
    rounds: int

    @property
    def end(self):
        """Index of the step after its last one."""
        return self.first + len(self.pattern) * self.rounds


def segments_of(plans):
    """Returns the `Segment`s of a depth: its smallest period, else equal neighbours.

    A last round of a period may be cut short; its steps are segments of their own.

    Args:
        plans: What is known of each step, a tuple of L equal or unequal things.
    """
    steps = len(plans)
    found, first = [], 0
    for period in range(1, steps // 2 + 1):
        if all(plans[step] == plans[step - period] for step in range(period, steps)):
            rounds = steps // period
            found, first = [Segment(0, plans[:period], rounds)], rounds * period
            break
    while first < steps:
        end = first
        while end < steps and plans[end] == plans[first]:
            end += 1
        found.append(Segment(first, (plans[first],), end - first))
        first = end
    return tuple(found)
