"""Relative keys: what a query finds at a place depends on how far away that is."""

import dataclasses
import functools
import math
from typing import Any, ClassVar

from keras import ops

from widenet_keras.layers.pieces.grid import side_of
from widenet_keras.layers.pieces.piece import Piece, Sizes, Weight
from widenet_keras.utils import numerics
from widenet_keras.utils.checks import check_odd
from widenet_keras.utils.types import Tensor

_OWNER = "RelativeKeys"
# A class token, or none.
_LEADING = (0, 1)


@dataclasses.dataclass(frozen=True)
class RelativeKeys(Piece):
    """Adds q . table[bucket(i, j)] to the logits of query i and key j.

    "Rethinking and Improving Relative Position Encoding for Vision Transformer" (arXiv
    2107.14222), contextual, by the product method, on keys and shared by the heads, as
    "MiniViT" (arXiv 2204.07154) has it in every step. q is scaled already. The bucket
    is that of the offset in rows and that in columns: offsets up to alpha have their
    own, further ones share them in steps that grow with the logarithm of the distance,
    and from some on all have the last. A class token, as query or key, has one more.

    The table starts at zero, which changes no logit, and is not decayed. It does not
    depend on the image size. Keys that only other pieces have are no places and get
    nothing.

    Args:
        buckets: Of one axis, odd: 7 is published, with alpha = 1.9. Others have
            alpha = (buckets + 0.6) / 4, and distances grow with it.

    Raises:
        ValueError: If there are too few, or an even number; one line says what is
            allowed.
    """

    kind: ClassVar[str] = "relative_keys"
    needs_all_tokens: ClassVar[bool] = True
    buckets: int = 7

    def __post_init__(self):
        why = "as many to each side and one for no offset"
        check_odd(_OWNER, "buckets", self.buckets, 3, why)

    def check(self, owner: str, config: Any) -> None:
        """Refuses registers; see `Piece.check`."""
        start = f"{owner}: pieces has {self.kind!r}, which"
        if config.registers:
            raise ValueError(
                f"{start} takes patches and a class token and registers="
                f"{config.registers} stand between; use registers=0, or leave it out."
            )

    def weights(self, sizes: Sizes) -> dict[str, Weight]:
        """Returns the table, (h, buckets^2), a column more with a class token."""
        side = side_of(_OWNER, sizes.tokens, _LEADING)
        rows = self.buckets**2 + sizes.tokens - side**2
        return {"table": Weight((sizes.key_dim, rows), "zeros", False)}

    def logits(self, w: Any, logits: Tensor, query: Tensor) -> Tensor:
        """Adds to the logits of the tokens; see `Piece.logits`."""
        heads, tokens = query.shape[1:3]
        found = numerics.product(query, numerics.cast(w.table, query.dtype))
        # (B, H, T, buckets) -> (B, H, T, T), by one index for all images and heads.
        found = numerics.reshaped(found, (-1, heads, tokens * found.shape[-1]))
        found = ops.take(found, _index(tokens, self.buckets), axis=-1)
        found = numerics.reshaped(found, (-1, heads, tokens, tokens))
        more = logits.shape[-1] - tokens
        if not more:
            return logits + found
        before, own = logits[..., :more], logits[..., more:]
        return numerics.concatenated([before, own + found], -1)


def _index(tokens, buckets):
    """Returns where query i has what it adds for key j, of T rows in one, (T^2,)."""
    side = side_of(_OWNER, tokens, _LEADING)
    leading = tokens - side**2
    # Made of what the device has: constants would be copied there at every step.
    place = ops.arange(side, dtype="int32")
    offset = ops.expand_dims(place, 1) - place
    bucket = sum(ops.cast(offset >= edge, "int32") for edge in _edges(buckets))
    index = ops.reshape(bucket, (side, 1, side, 1)) * buckets
    index = index + ops.reshape(bucket, (1, side, 1, side))
    index = ops.reshape(index, (side**2, side**2))
    columns = buckets**2 + leading
    if leading:
        column, row = (
            ops.full(shape, buckets**2, dtype="int32")
            for shape in ((side**2, 1), (1, tokens))
        )
        index = numerics.concatenated([column, index], 1)
        index = numerics.concatenated([row, index], 0)
    start = ops.arange(tokens, dtype="int32") * columns
    return ops.reshape(index + ops.expand_dims(start, 1), (-1,))


@functools.lru_cache
def _edges(buckets):
    """Returns the offsets at which the buckets 1, 2, ... of one axis begin."""
    last, alpha = buckets // 2, (buckets + 0.6) / 4

    def of(distance):
        if distance <= alpha:
            return min(last, distance)
        # Where gamma = 8 alpha it reaches beta = 2 alpha, whose whole part is the last.
        return min(last, round(alpha * (1 + math.log(distance / alpha, 8))))

    first = [
        next(x for x in range(1, 99 * last) if of(x) >= n) for n in range(1, last + 1)
    ]
    return [*(1 - x for x in reversed(first)), *first]
