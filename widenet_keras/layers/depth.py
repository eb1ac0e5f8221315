"""Repeating a round of steps over the depth: unrolled, or as one compiled loop."""

import keras

from widenet_keras.utils import numerics
from widenet_keras.utils.execution import must_unroll, shapes_are_static
from widenet_keras.utils.trees import leaves, mapped, packed

if keras.backend.backend() == "jax":
    from widenet_keras.layers import depth_jax as _backend
elif keras.backend.backend() == "torch":
    from widenet_keras.layers import depth_torch as _backend
else:
    from widenet_keras.layers import depth_tensorflow as _backend

remat = _backend.remat
SCANS = ("auto", "always", "never")
REMATS = ("none", "full")


def repeat(one_round, tokens, private, weights, rounds, outputs, scan="auto"):
    """Applies a round of steps again and again, each with its private pieces.

    Args:
        one_round: Function of tokens, the pieces of one round and the weights that
            all rounds read; returns tokens and a tree of outputs.
        tokens: (B, T, D).
        private: Tree of arrays with a leading axis of rounds.
        weights: Tree of what all rounds read.
        rounds: How many.
        outputs: Tree of `keras.KerasTensor`s like the outputs of a round.
        scan: One of `SCANS`.

    Returns:
        Tokens, and the outputs with a leading axis of rounds.
    """
    loop = _backend.loop
    wanted = scan == "always" or (
        scan == "auto" and rounds >= _backend.SHORTEST and _backend.is_traced(tokens)
    )
    # In a loop XLA needs every shape as a constant, the number of images too.
    possible = loop is not None and not (
        must_unroll() or (shapes_are_static() and tokens.shape[0] is None)
    )
    if wanted and possible and rounds > 1:
        return loop(one_round, tokens, private, weights, rounds, outputs)
    rows = zip(
        *(numerics.rows_of(leaf, rounds) for leaf in leaves(private)), strict=True
    )
    found = []
    for row in rows:
        tokens, made = one_round(tokens, packed(private, row), weights)
        found.append(made)
    return tokens, stacked(found)


def stacked(trees):
    """Returns one tree of many like it, stacked on a new leading axis."""
    return mapped(lambda *leaves: numerics.stacked(leaves), *trees)


def joined(trees):
    """Returns one tree of many like it, concatenated along the leading axis."""
    if len(trees) == 1:
        return trees[0]
    return mapped(lambda *leaves: numerics.concatenated(leaves), *trees)


def merged(tree):
    """(rounds, r, ...) -> (rounds * r, ...)."""
    return mapped(
        lambda leaf: numerics.reshaped(
            leaf, (leaf.shape[0] * leaf.shape[1], *keras.ops.shape(leaf)[2:])
        ),
        tree,
    )
