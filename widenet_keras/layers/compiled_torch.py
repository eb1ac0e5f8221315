"""Steps of the depth compiled by `torch.compile`: a program for all blocks alike.

What a compiler cannot look into (draws of a seed, one product per expert) are operators
of their own, so that a program is one graph whatever the size of the batch.
"""

import contextlib
import functools
import itertools
import warnings
from typing import NamedTuple

import torch
from torch._dynamo.exc import FailOnRecompileLimitHit, TorchDynamoException
from torch._inductor.exc import InductorError
from torch.fx.experimental.symbolic_shapes import ConstraintViolationError

from widenet_keras.layers.block_math import BlockSpec
from widenet_keras.layers.plan import Plan
from widenet_keras.layers.sharing import ranks
from widenet_keras.layers.step import step
from widenet_keras.utils.plain_errors import first_line
from widenet_keras.utils.random_torch import Seed

# Steps of one program. Calling it, forward and backward, takes Python as long as
# twenty kernels; compiling it for four steps takes twice what one step does.
_AT_ONCE = 4
_refused = set()
_REFUSALS = (
    TorchDynamoException,
    FailOnRecompileLimitHit,
    InductorError,
    ConstraintViolationError,
)


class _Key(NamedTuple):
    """What is static about a program.

    Attributes:
        spec: `BlockSpec` of its steps.
        plans: `Plan` of each of them, where blocks are those of the program.
        pieces: Tuple of the `Piece`s of every step.
        parts: Which attentions and which feed-forward parts its blocks have.
    """

    spec: BlockSpec
    plans: tuple[Plan, ...]
    pieces: tuple
    parts: tuple[tuple[int, ...], tuple[int, ...]]


def in_programs(tokens, private, weights, plans, depth, remat):
    """Returns the tokens after some steps, and a list of the `Outputs` of each.

    Args:
        tokens: (B, T, D).
        private: List of the `Private` of each of these steps.
        weights: `BlockWeights` of every unique block.
        plans: `Plan` of each of these steps.
        depth: `Depth`.
        remat: `remat` of `depth_torch`, which imports this file.
    """
    found, first = [], 0
    for some in _cut(tuple(plans), depth):
        mine, first = private[first : first + len(some)], first + len(some)
        read = dict.fromkeys(plan.block for plan in some)
        function = functools.partial(_run, _key(some, depth))
        if depth.remat:
            function = functools.partial(remat, function)
        tokens, outputs = function(tokens, mine, [weights[block] for block in read])
        found += outputs
    return tokens, found


@functools.cache
def _cut(plans, depth):
    """Returns the plans of the steps of each program, a list of tuples.

    Steps alike that follow each other are cut evenly, so that they share a program.
    One that is looked at is cut as if it were not: its program is then another one,
    but there are not more of them to call.
    """

    def kind(plan):
        return depth.specs[plan.block], unseen(plan)._replace(block=0)

    def unseen(plan):
        return plan._replace(looked_at=False)

    found = []
    for _, alike in itertools.groupby(plans, kind):
        alike = tuple(alike)
        # What is computed again for the gradients is one step at a time.
        for size in range(1 if depth.remat else _AT_ONCE, 0, -1):
            parts = [alike[i : i + size] for i in range(0, len(alike), size)]
            if len({_key([*map(unseen, part)], depth) for part in parts}) == 1:
                break
        found += parts
    return found


def _key(plans, depth):
    """Returns the `_Key` of the program of some steps alike."""
    read = list(dict.fromkeys(plan.block for plan in plans))
    return _Key(
        depth.specs[plans[0].block],
        tuple(plan._replace(block=read.index(plan.block)) for plan in plans),
        depth.pieces,
        tuple(map(ranks, zip(*(depth.parts[block] for block in read), strict=True))),
    )


def _run(key, tokens, private, weights):
    """Returns what `_steps` does, by a program or as it is where that cannot be."""
    # Keras asks for shapes only.
    if tokens.is_meta or key in _refused:
        return _steps(key, tokens, private, weights)
    if len(tokens) > 1:
        # A batch of one is a program of its own.
        torch._dynamo.mark_dynamic(tokens, 0)
    try:
        with _quiet():
            return _program(key)(tokens, [*map(_of_tensors, private)], weights)
    except _REFUSALS as error:
        _refused.add(key)
        warnings.warn(
            f"torch.compile does not take this block ({first_line(error)}); it runs "
            "as it is.",
            stacklevel=2,
        )
        return _steps(key, tokens, private, weights)


@functools.cache
def _program(key):
    def steps(tokens, private, weights):
        return _steps(key, tokens, private, weights)

    # Or all programs of a process share one limit, 8 recompilations.
    steps.__code__ = steps.__code__.replace()
    return torch.compile(steps, fullgraph=True, dynamic=False)


def _steps(key, tokens, private, weights):
    """Returns the tokens after steps that follow each other, and their `Outputs`.

    Args:
        key: `_Key`.
        tokens: (B, T, D).
        private: List of the `Private` of each step.
        weights: List of the `BlockWeights` that they read.
    """
    found = []
    for plan, own in zip(key.plans, private, strict=True):
        read = weights[plan.block]
        tokens, outputs = step(tokens, own, read, key.spec, plan, key.pieces)
        found.append(outputs)
    return tokens, found


def _of_tensors(private):
    """Returns a `Private` whose seed is a tensor: a program per number otherwise."""
    if isinstance(private.seed, tuple):
        return private
    return private._replace(seed=Seed(torch.tensor(private.seed)))


@contextlib.contextmanager
def _quiet():
    """Hides what the compiler warns of in its own code."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
