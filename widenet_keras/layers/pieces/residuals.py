"""Learned factors of the residuals, and a small MLP of each step after its block."""

import dataclasses
import math
from typing import Any, ClassVar, Self

import keras

from widenet_keras.layers.mlp import Mlp
from widenet_keras.layers.normalization import EPSILON, layer_norm
from widenet_keras.layers.pieces.piece import Piece, Sizes, Weight
from widenet_keras.routing.random_draws import SILENT, RandomDraws
from widenet_keras.utils import numerics
from widenet_keras.utils.checks import check_choice, check_positive
from widenet_keras.utils.types import Tensor

PERS = ("block", "step")
INITS = ("published", "identity")
_SITES = {"attention": (0, 1), "feed_forward": (2, 3)}


@dataclasses.dataclass(frozen=True)
class ResidualScale(Piece):
    """Makes the residuals c1 x + c2 Attn(x) and c3 x + c4 FFN(x); starts with ones.

    Source: "Sliced Recursive Transformer" (arXiv 2111.05297), whose steps share the
    four numbers with the block that they read.

    Args:
        per: "block" for four numbers of each unique block, "step" for four of each
            step.

    Raises:
        ValueError: If `per` is something else; one line says what is allowed.
    """

    kind: ClassVar[str] = "residual_scale"
    per: str = "block"

    def __post_init__(self):
        check_choice("ResidualScale", "per", self.per, PERS)

    def of_each_step(self) -> Self:
        """Returns it with four numbers of each step; see `Piece.of_each_step`."""
        return dataclasses.replace(self, per="step")

    def weights(self, sizes: Sizes) -> dict[str, Weight]:
        """Returns the four numbers; see `Piece.weights`."""
        steps = "blocks" if self.per == "block" else "all"
        return {"factors": Weight((4,), "ones", False, steps, exact=True)}

    def residual(
        self, w: Any, site: str, tokens: Tensor, branch: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Returns both addends times their numbers; see `Piece.residual`."""
        pairs = zip((tokens, branch), _SITES[site], strict=True)
        return tuple(_scaled(x, w.factors[place]) for x, place in pairs)


@dataclasses.dataclass(frozen=True)
class Projection(Piece):
    """Ends each step with c5 x + c6 MLP(LN(x)), whose weights are all its own.

    Source: the non-linear projection layer of "Sliced Recursive Transformer" (arXiv
    2111.05297), by which steps that share even their norms compute different things. No
    path of it is ever dropped, as in the published code.

    Args:
        ratio: r; the hidden layer has int(r D) units, at least 1.
        init: "published" (c5 = c6 = 1 and all products as torch starts them, uniform
            within one over the root of their inputs, which changes what a model gives),
            or "identity" (the same but for an outer product of zeros).
        activation: That of the hidden layer, as for the hidden layers of a model.
        norm_epsilon: What LN adds to the variance. A piece does not know that of the
            model, so it says its own: by default that of the published code, which is
            the default of models too.

    Raises:
        ValueError: If an argument is out of range; one line says what is allowed.
    """

    kind: ClassVar[str] = "projection"
    ratio: float = 1.0
    init: str = "published"
    activation: str = "gelu"
    norm_epsilon: float = EPSILON

    def __post_init__(self):
        check_positive("Projection", "ratio", self.ratio)
        check_choice("Projection", "init", self.init, INITS)
        names = tuple(numerics.ACTIVATIONS)
        check_choice("Projection", "activation", self.activation, names)
        check_positive("Projection", "norm_epsilon", self.norm_epsilon)

    def hidden(self, width: int) -> int:
        """Returns the number of units of the hidden layer.

        Args:
            width: D.

        Raises:
            ValueError: If there is none.
        """
        units = int(self.ratio * width)
        if units < 1:
            raise ValueError(
                f"Projection: ratio={self.ratio} of a width of {width} is less than "
                f"one hidden unit; use at least {math.ceil(1e4 / width) / 1e4:g}."
            )
        return units

    def check(self, owner: str, config: Any) -> None:
        """Raises `ValueError` if no hidden unit is left; see `Piece.check`."""
        self.hidden(config.width)

    def weights(self, sizes: Sizes) -> dict[str, Weight]:
        """Returns norm, MLP and the two numbers; see `Piece.weights`."""
        width, hidden = sizes.width, self.hidden(sizes.width)
        starts = _like_torch(width), _like_torch(hidden)
        if self.init == "identity":
            starts = starts[0], ("zeros", "zeros")
        return {
            "gamma": Weight((width,), "ones", False, exact=True),
            "beta": Weight((width,), "zeros", False, exact=True),
            "hidden_kernel": Weight((width, hidden), starts[0][0], int8_axis=-2),
            "hidden_bias": Weight((hidden,), starts[0][1], False),
            "outer_kernel": Weight((hidden, width), starts[1][0], int8_axis=-2),
            "outer_bias": Weight((width,), starts[1][1], False),
            "factors": Weight((2,), "ones", False, exact=True),
        }

    def after(self, w: Any, tokens: Tensor, draws: RandomDraws) -> Tensor:
        """Adds the MLP of the tokens; see `Piece.after`."""
        normal = layer_norm(tokens, w.gamma, w.beta, self.norm_epsilon)
        products = w.hidden_kernel, w.hidden_bias, w.outer_kernel, w.outer_bias
        branch = Mlp(self.activation, None, 0.0)(normal, products, SILENT)
        return _scaled(tokens, w.factors[0]) + _scaled(branch, w.factors[1])


def _scaled(x, factor):
    """Returns `x` times a float32 number, which half precision would round to 1."""
    return numerics.cast(numerics.cast(x, "float32") * factor, x.dtype)


def _like_torch(inputs):
    """Returns initializers of a kernel and of a bias."""
    limit = inputs**-0.5
    return tuple(keras.initializers.RandomUniform(-limit, limit) for _ in range(2))
