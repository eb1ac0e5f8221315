"""Attention in groups of tokens: how many a step has, and which tokens are in one."""

import functools
from typing import NamedTuple

import numpy as np
from keras import ops

from widenet_keras.layers.heads import Heads
from widenet_keras.utils import numerics
from widenet_keras.utils.checks import check_integer

# Of the orders of tokens at inference: the number of the paper.
_SEED = 211105297


class Groups(NamedTuple):
    """The groups of tokens in which one step attends.

    Source: sliced group self-attention of "Sliced Recursive Transformer" (arXiv
    2111.05297). Groups are neighbours, in the order of the tokens or in another one.
    To attention they are images with fewer tokens.

    Attributes:
        count: G.
        order: (2, T) int32, places in which tokens are taken, and in which they are put
            back; absent where they stay in their order.
    """

    count: int = 1
    order: object = ()

    def apart(self, tokens):
        """(B, T, D) -> (B G, T/G, D), a group at a time."""
        if self.count == 1:
            return tokens
        if not isinstance(self.order, tuple):
            tokens = numerics.reordered(tokens, self.order[0])
        _, length, width = tokens.shape
        return numerics.reshaped(tokens, (-1, length // self.count, width))

    def together(self, tokens):
        """(B G, T/G, ...) -> (B, T, ...), in the order of the tokens."""
        if self.count == 1:
            return tokens
        _, length, *sizes = tokens.shape
        whole = numerics.reshaped(tokens, (-1, length * self.count, *sizes))
        if isinstance(self.order, tuple):
            return whole
        return numerics.reordered(whole, self.order[1])

    def heads_together(self, heads):
        """Returns `Heads` (B G, T/G, H, d) each as (B, T, H, d)."""
        return Heads(*map(self.together, heads))

    def for_each(self, rows):
        """Returns rows that every group attends to, (B, P, D) -> (B G, P, D).

        Rows of all images, (1, P, D), stay as they are.
        """
        if self.count == 1 or rows.shape[0] == 1:
            return rows
        repeated = numerics.stacked([rows] * self.count, 1)
        return numerics.reshaped(repeated, (-1, *rows.shape[1:]))


ONE_GROUP = Groups()


class GroupsOfSteps(NamedTuple):
    """How many groups each step has, and which steps take their tokens in an order.

    Attributes:
        counts: G of each step, a tuple of length L.
        permuted: Whether each step takes the tokens in an order of its own: those that
            read their block for the second time or later and have groups.
    """

    counts: tuple[int, ...]
    permuted: tuple[bool, ...]

    @classmethod
    def of(cls, owner, given, block_of_step):
        """Returns those that are asked for.

        Args:
            owner: Name that starts the message of an error.
            given: One number for all steps, or a sequence of length L.
            block_of_step: Which unique block each step reads, a tuple of length L.

        Raises:
            ValueError: If a number is none, or there are not L of them.
        """
        steps, several = len(block_of_step), isinstance(given, list | tuple)
        counts = tuple(given) if several else (given,) * steps
        if len(counts) != steps:
            raise ValueError(
                f"{owner}: attention_groups={given!r} has {len(counts)} numbers and "
                f"there are {steps} steps; give one for each, or one number for all."
            )
        for step, count in enumerate(counts):
            name = f"[{step}]" if several else ""
            check_integer(owner, f"attention_groups{name}", count, 1)
        first = {}
        again = (first.setdefault(b, t) < t for t, b in enumerate(block_of_step))
        pairs = zip(counts, again, strict=True)
        return cls(counts, tuple(count > 1 and reads for count, reads in pairs))

    def check(self, owner, tokens, pieces):
        """Raises `ValueError` unless the groups divide the tokens and fit the pieces.

        Args:
            owner: Name that starts the message.
            tokens: T.
            pieces: Tuple of the `Piece`s of every step.
        """
        for piece in pieces:
            if piece.needs_all_tokens and max(self.counts) > 1:
                raise ValueError(
                    f"{owner}: pieces has {piece.kind!r}, which needs every token to "
                    f"see all, and attention_groups has {max(self.counts)}; use "
                    "attention_groups=1, or leave it out."
                )
        for count in self.counts:
            if count > 1 and tokens % count:
                less = range(1, min(count, tokens + 1))
                near = max(n for n in less if tokens % n == 0)
                raise ValueError(
                    f"{owner}: attention_groups={count} does not divide the {tokens} "
                    f"tokens of an image; use a divisor, such as {near}."
                )

    def orders(self, draws, tokens):
        """Returns the orders of the tokens in a pass, (L, 2, T) int32, or `()`.

        Training draws them, the same for the whole batch; the published code does at
        inference too, where an image has many answers then. Here the answer is one:
        they follow from the step and the number of tokens, on every backend and in
        every file. Steps whose tokens stay in order have that order.

        Args:
            draws: `RandomDraws` of the pass.
            tokens: T.
        """
        if not any(self.permuted):
            return ()
        if draws.silent:
            return ops.convert_to_tensor(_fixed(self.permuted, tokens), "int32")
        permuted = np.array(self.permuted)[:, None]
        drawn = draws.numbers(len(permuted), tokens)
        ascending = np.arange(tokens, dtype="float32")
        order = ops.argsort(ops.where(permuted, drawn, ascending))
        both = ops.stack([order, ops.argsort(order)], axis=1)
        return ops.cast(both, "int32")


@functools.lru_cache
def _fixed(permuted, tokens):
    """Returns the orders of inference, (L, 2, T); see `GroupsOfSteps.orders`."""
    orders = np.tile(np.arange(tokens), (len(permuted), 1))
    for step in np.flatnonzero(permuted):
        # Raw bits, which no version of NumPy draws otherwise, as it may permutations.
        bits = np.random.PCG64([_SEED, int(step)]).random_raw(tokens)
        orders[step] = np.argsort(bits, kind="stable")
    return np.stack([orders, np.argsort(orders, axis=1)], axis=1)
