"""Visual prompts: learned rows of every step that its tokens attend to."""

import dataclasses
from typing import Any, ClassVar, Self

import keras

from widenet_keras.layers.pieces.piece import Piece, Sizes, Weight
from widenet_keras.routing.random_draws import RandomDraws
from widenet_keras.utils import numerics
from widenet_keras.utils.checks import check_integer, check_number
from widenet_keras.utils.types import Tensor

_OWNER = "Prompt"


@dataclasses.dataclass(frozen=True)
class Prompt(Piece):
    """Learned rows that go through norm, keys and values of a step like tokens.

    "Visual Prompt Tuning" (arXiv 2203.12119), deep, and "E2VPT" (arXiv 2307.13770):
    there prompts stand among the tokens and what becomes of them is thrown away after
    every step, so they are keys and values and nothing else. No query, feed-forward
    part, router or pooling ever meets one: the published numbers at a part of the cost,
    but for pooling by "mean", which here is that of the tokens alone.

    Args:
        count: P.
        dropout: Dropout rate of the prompts in training.
        segments: S, in how many parts the channels of a prompt can be pruned, channel c
            in segment c mod S; 0 for whole prompts only. With them a mask (P, S), which
            nothing trains, is kept beside each step's prompts.

    Raises:
        ValueError: If an argument is out of range; one line says what is allowed.
    """

    kind: ClassVar[str] = "prompt"
    count: int = 10
    dropout: float = 0.1
    segments: int = 0

    def __post_init__(self):
        check_integer(_OWNER, "count", self.count, 1)
        check_number(_OWNER, "dropout", self.dropout, 0.0, below=1.0)
        check_integer(_OWNER, "segments", self.segments, 0)

    def without_dropout(self) -> Self:
        """Returns it without dropout; see `Piece.without_dropout`."""
        return dataclasses.replace(self, dropout=0.0)

    def weights(self, sizes: Sizes) -> dict[str, Weight]:
        """Returns the prompts and their mask; see `Piece.weights`."""
        if self.segments and sizes.width % self.segments:
            raise ValueError(
                f"{_OWNER}: segments={self.segments} does not divide the width "
                f"{sizes.width}; use a divisor of it, or 0."
            )
        # +-sqrt(6 / (c p^2 + D)) of VPT, for patches of c p^2 = D numbers.
        limit = (3 / sizes.width) ** 0.5
        start = keras.initializers.RandomUniform(-limit, limit)
        found = {
            "prompt": Weight((self.count, sizes.width), start, False, int8_axis=-1)
        }
        if self.segments:
            shape = (self.count, self.segments)
            found["mask"] = Weight(shape, "ones", False, trainable=False, exact=True)
        return found

    def prompts(self, w: Any, tokens: Tensor, draws: RandomDraws) -> Tensor:
        """Returns the rows before the norm; see `Piece.prompts`."""
        rows = numerics.cast(w.prompt, tokens.dtype)
        count, width = rows.shape
        if self.segments:
            mask = numerics.reshaped(w.mask, (count, 1, self.segments))
            rows = numerics.reshaped(rows, (count, -1, self.segments))
            rows = rows * numerics.cast(mask, rows.dtype)
        rows = numerics.reshaped(rows, (1, count, width))
        if draws.silent or not self.dropout:
            return rows
        # Every image drops entries of its own.
        return draws.dropout(numerics.for_each_image(rows, tokens), self.dropout)
