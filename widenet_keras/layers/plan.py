"""What is known of the steps before anything is compiled, and how it cuts the depth."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

from widenet_keras.utils.checks import check_integer


class Plan(NamedTuple):
    """What is known of a step before anything is compiled; it cuts the depth.

    Attributes:
        block: Index of the unique block that it reads.
        looked_at: Whether it returns what it computed with.
        hidden: How many of the hidden units of its feed-forward part it takes, the
            first of them; None for all.
        groups: G, in how many groups its tokens attend.
        permutes: Whether these are made of the tokens in another order.
    """

    block: int
    looked_at: bool = False
    hidden: int | None = None
    groups: int = 1
    permutes: bool = False


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

    A last round of a period may be cut short; its steps are segments of their own. So
    is a last step like no other, such as one that is looked at.

    Args:
        plans: What is known of each step, a tuple of L equal or unequal things.
    """
    if plans[-1] not in plans[:-1]:
        return *_repeated(plans[:-1]), Segment(len(plans) - 1, plans[-1:], 1)
    return tuple(_repeated(plans))


def _repeated(plans):
    """Returns the same of plans whose last is like any other, a list."""
    steps, found, first = len(plans), [], 0
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
    return found


def plans_of(block_of_step, look_at=(), widths=None, groups=None):
    """Returns the `Plan` of every step.

    Args:
        block_of_step: The block that each step reads, a tuple of length L.
        look_at: Steps that return what they computed with.
        widths: How many hidden units each step takes; None for all.
        groups: `GroupsOfSteps`; None for one group everywhere.
    """
    steps = len(block_of_step)
    widths = widths or (None,) * steps
    counts, permuted = groups or ((1,) * steps, (False,) * steps)
    looked_at = (step in look_at for step in range(steps))
    plans = [*map(Plan, block_of_step, looked_at, widths, counts)]
    # A step that differs from these in that alone would end a loop; it has an order
    # too, that of the tokens.
    permutes = set(itertools.compress(plans, permuted))
    return tuple(plan._replace(permutes=plan in permutes) for plan in plans)


def check_looked_at(owner, look_at, steps):
    """Raises `ValueError` unless all of `look_at` are steps, from 0 to L - 1.

    Args:
        owner: Name that starts the message.
        look_at: Sequence of steps.
        steps: L.
    """
    if not isinstance(look_at, Sequence):
        raise ValueError(
            f"{owner}: look_at={look_at!r} must be a list of steps, such as (0, "
            f"{steps - 1})."
        )
    for step in look_at:
        check_integer(owner, "look_at", step, 0)
        if step >= steps:
            raise ValueError(
                f"{owner}: look_at has step {step} and there are {steps}; use 0 to "
                f"{steps - 1}."
            )
