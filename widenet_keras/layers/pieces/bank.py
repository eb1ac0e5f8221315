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


def one_of(weights, draws, is_bank):
    """Returns one copy of weights that belong together, a tuple of tensors.

    In training it is drawn for the step and the whole batch, at inference the mean
    ("AdaMix", arXiv 2205.12410, sections 3.2 and 3.3).

    Args:
        weights: Tuple of tensors (M, ...).
        draws: `RandomDraws` of the step.
        is_bank: Whether there are copies; if not, the weights are what they are.
    """
    if not is_bank:
        return weights
    if draws.silent:
        return tuple(keras.ops.mean(each, axis=0) for each in weights)
    chosen = draws.one_of(weights[0].shape[0])
    return tuple(_chosen(each, chosen) for each in weights)


def _chosen(stack, chosen):
    # By a product, whose gradient is dense on every backend.
    count, *shape = stack.shape
    rows = numerics.reshaped(stack, (count, -1))
    chosen = numerics.cast(numerics.reshaped(chosen, (1, count)), rows.dtype)
    return numerics.reshaped(numerics.product(chosen, rows), tuple(shape))
