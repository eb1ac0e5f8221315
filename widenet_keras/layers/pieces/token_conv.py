"""Token convolution: neighbours on the grid are added to each other in a block."""

import dataclasses
from typing import Any, ClassVar

import keras

from widenet_keras.layers.normalization import EPSILON, layer_norm
from widenet_keras.layers.pieces.grid import side_of
from widenet_keras.layers.pieces.piece import Piece, Sizes, Weight
from widenet_keras.utils import numerics
from widenet_keras.utils.checks import check_odd
from widenet_keras.utils.types import Tensor

_OWNER = "TokenConv"
# No token that is no patch.
_LEADING = (0,)


@dataclasses.dataclass(frozen=True)
class TokenConv(Piece):
    """Puts z + conv(z) with z = LN(x) in the place of the tokens x between the parts.

    "MiniViT" (arXiv 2204.07154), in the form of Mini-Swin: between attention and the
    feed-forward part, whose own norm comes after it, tokens are normalised on the
    residual path itself, and a depthwise convolution over their grid, with zeros
    around it, is added. No start leaves a trained model as it is. The norm has the
    epsilon 1e-6 of ViTs, where Mini-Swin has 1e-5.

    Args:
        size: Side of the kernel, odd.

    Raises:
        ValueError: If it is no odd number; one line says what is allowed.
    """

    kind: ClassVar[str] = "token_conv"
    size: int = 7

    def __post_init__(self):
        check_odd(_OWNER, "size", self.size, 1, "so that a kernel has a centre")

    def check(self, owner: str, config: Any) -> None:
        """Refuses tokens that are no patches; see `Piece.check`."""
        if config.leading_tokens:
            raise ValueError(
                f"{owner}: pieces has {self.kind!r}, which needs a grid of patches "
                f"alone, and class_token={config.class_token}, registers="
                f"{config.registers}; use class_token=False, registers=0 and "
                "pooling='mean', or leave it out."
            )

    def weights(self, sizes: Sizes) -> dict[str, Weight]:
        """Returns norm, kernel (size, size, D) and bias; see `Piece.weights`."""
        side_of(_OWNER, sizes.tokens, _LEADING)
        width = (sizes.width,)
        # As published, the start of torch: 1 / sqrt(size^2).
        start = keras.initializers.RandomUniform(-1 / self.size, 1 / self.size)
        # One of 49 numbers for each channel is what int8 rounds worst, and saves least.
        return {
            "gamma": Weight(width, "ones", False, exact=True),
            "beta": Weight(width, "zeros", False, exact=True),
            "kernel": Weight((self.size, self.size, *width), start),
            "bias": Weight(width, start.clone(), False),
        }

    def between(self, w: Any, tokens: Tensor) -> Tensor:
        """Returns z + conv(z); see `Piece.between`."""
        _, count, width = tokens.shape
        side = side_of(_OWNER, count, _LEADING)
        normal = layer_norm(tokens, w.gamma, w.beta, EPSILON)
        kernel, bias = (
            numerics.cast(each, tokens.dtype) for each in (w.kernel, w.bias)
        )
        grid = keras.ops.depthwise_conv(
            numerics.reshaped(normal, (-1, side, side, width)),
            numerics.reshaped(kernel, (self.size, self.size, width, 1)),
            padding="same",
            data_format="channels_last",
        )
        return normal + numerics.reshaped(grid + bias, (-1, count, width))
