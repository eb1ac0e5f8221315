"""Banks: copies of a map of which training draws one, and inference takes the mean."""

import keras

from widenet_keras.utils import numerics
from widenet_keras.utils.checks import check_choice, check_integer

# Which of two maps the copies share.
SHARED = ("up", "down", "none")


def check_bank(owner, bank, shared):
    """Raises `ValueError` unless there can be such a bank.

    Args:
        owner: Name that starts the message.
        bank: M, how many copies.
        shared: One of `SHARED`.
    """
    check_integer(owner, "bank", bank, 1)
    check_choice(owner, "shared", shared, SHARED)


def copies(side, bank, shared):
    """Returns the leading axis of a weight: (M,), or () where there is one of it.

    Args:
        side: "down" or "up".
        bank: M.
        shared: One of `SHARED`.
    """
    return () if bank == 1 or side == shared else (bank,)


def one_of_each(w, piece, parts, draws):
    """Returns weights of a step in which every bank is one of its copies.

    In training it is drawn for the step and the whole batch (on TensorFlow and torch
    for what a replica has of it), at inference the mean
    ("AdaMix", arXiv 2205.12410, sections 3.2 and 3.3).

    Args:
        w: NamedTuple of the weights of a step.
        piece: A piece with `bank` and `shared`.
        parts: List of pairs of "down" or "up" and the names of weights of that side
            which belong together, a tuple.
        draws: `RandomDraws` of the step.
    """
    found = {}
    for side, names in parts:
        if copies(side, piece.bank, piece.shared):
            stacks = [getattr(w, name) for name in names]
            found |= zip(names, _one_of(stacks, draws), strict=True)
    return w._replace(**found)


def _one_of(stacks, draws):
    """Returns one copy of weights (M, ...), the same one of each."""
    if draws.silent:
        return [keras.ops.mean(stack, axis=0) for stack in stacks]
    chosen = draws.one_of(stacks[0].shape[0])
    return [_chosen(stack, chosen) for stack in stacks]


def _chosen(stack, chosen):
    # By a sum, which is exact and whose gradient is dense on every backend.
    chosen = numerics.cast(chosen, stack.dtype)
    chosen = numerics.reshaped(chosen, (-1, *[1] * (len(stack.shape) - 1)))
    return keras.ops.sum(stack * chosen, axis=0)
