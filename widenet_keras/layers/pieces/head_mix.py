"""Head mixing: the heads of attention see each other, before and after the softmax."""

import dataclasses
from typing import Any, ClassVar

import keras

from widenet_keras.layers.pieces.piece import Piece, Sizes, Weight
from widenet_keras.utils import numerics
from widenet_keras.utils.checks import check_choice
from widenet_keras.utils.types import Tensor

INITS = ("identity", "published")
_OWNER = "HeadMix"


def _identities(shape, dtype=None):
    """Returns (S, H, H), an identity for each row of a stack."""
    one = keras.ops.eye(shape[-1], dtype=dtype)
    return keras.ops.stack([one] * shape[0])


@dataclasses.dataclass(frozen=True)
class HeadMix(Piece):
    """Mixes logits and probabilities of attention over the heads.

    "MiniViT" (arXiv 2204.07154), for steps that share a block: attention becomes
    (M_w softmax(M_l logits)) values, with M_l and M_w (H, H) of every step, without
    biases, as in Mini-DeiT. What another piece adds to logits is mixed too if that
    piece stands before this one in `pieces`, as published relative keys do.

    Attention is computed in its parts then, not by a fused kernel. The mixes are not
    decayed, unlike the published ones: at zero attention gives nothing.

    Args:
        init: "identity" (starts without effect, for a model that is trained already),
            or "published" (truncated normal with 0.02, so that attention gives next to
            nothing at first).

    Raises:
        ValueError: If there is no such init; one line says what is allowed.
    """

    kind: ClassVar[str] = "head_mix"
    init: str = "identity"

    def __post_init__(self):
        check_choice(_OWNER, "init", self.init, INITS)

    def weights(self, sizes: Sizes) -> dict[str, Weight]:
        """Returns both mixes, (H, H), output heads first; see `Piece.weights`."""

        def start():
            if self.init == "identity":
                return _identities
            # One of its own for each: an initializer draws the same again.
            return keras.initializers.TruncatedNormal(stddev=0.02)

        # So few numbers, which every logit is made with, are stored as they are.
        return {
            name: Weight((sizes.heads, sizes.heads), start(), False, exact=True)
            for name in ("logits", "probabilities")
        }

    def logits(self, w: Any, logits: Tensor, query: Tensor) -> Tensor:
        """Returns M_l logits; see `Piece.logits`."""
        return _mixed(w.logits, logits)

    def probabilities(self, w: Any, probabilities: Tensor) -> Tensor:
        """Returns M_w probabilities; see `Piece.probabilities`."""
        return _mixed(w.probabilities, probabilities)


def _mixed(mix, heads):
    """Returns (B, H, T, S) with mix (H, H) over the heads, in the dtype of these."""
    _, count, tokens, keys = heads.shape
    flat = numerics.reshaped(heads, (-1, count, tokens * keys))
    flat = numerics.product(numerics.cast(mix, heads.dtype), flat)
    return numerics.reshaped(flat, (-1, count, tokens, keys))
