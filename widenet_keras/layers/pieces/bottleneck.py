"""Bottleneck adapters behind the feed-forward part, and banks of them."""

import dataclasses
from typing import Any, ClassVar

import keras

from widenet_keras.layers.pieces.bank import check_bank, copies, one_of_each
from widenet_keras.layers.pieces.piece import Piece, Sizes, Weight
from widenet_keras.routing.random_draws import RandomDraws
from widenet_keras.utils import numerics
from widenet_keras.utils.checks import check_choice, check_integer
from widenet_keras.utils.types import Tensor

INITS = ("identity", "published")
_OWNER = "Bottleneck"


@dataclasses.dataclass(frozen=True)
class Bottleneck(Piece):
    """Makes y + g(y down + b) up + b' of the output y of the feed-forward part.

    Sources: "Parameter-Efficient Transfer Learning for NLP" (arXiv 1902.00751); for
    banks "AdaMix" (arXiv 2205.12410): in training each step draws one copy for the
    whole batch (on TensorFlow and torch of each replica), those of down and up apart;
    inference takes the mean of the bank, which is what `widenet_keras.merge` leaves of
    it.

    Args:
        rank: r, width of the bottleneck.
        bank: M copies.
        shared: Which map the copies share, "up", "down" or "none".
        activation: g, as for the hidden layers of a model.
        init: "identity" (up starts at zero), or "published" (all kernels normal with
            0.02, which changes what the model gives).

    Raises:
        ValueError: If an argument is out of range; one line says what is allowed.
    """

    kind: ClassVar[str] = "bottleneck"
    rank: int = 16
    bank: int = 1
    shared: str = "up"
    activation: str = "gelu"
    init: str = "identity"

    def __post_init__(self):
        check_integer(_OWNER, "rank", self.rank, 1)
        check_bank(_OWNER, self.bank, self.shared)
        check_choice(_OWNER, "activation", self.activation, tuple(numerics.ACTIVATIONS))
        check_choice(_OWNER, "init", self.init, INITS)

    def weights(self, sizes: Sizes) -> dict[str, Weight]:
        """Returns down and up with their biases; see `Piece.weights`."""
        width, rank = sizes.width, self.rank
        down, up = (copies(side, self.bank, self.shared) for side in ("down", "up"))
        normal = keras.initializers.RandomNormal
        first, last = normal(stddev=width**-0.5), "zeros"
        if self.init == "published":
            first, last = normal(stddev=0.02), normal(stddev=0.02)
        return {
            "down": Weight((*down, width, rank), first, int8_axis=-2),
            "down_bias": Weight((*down, rank), "zeros", False),
            "up": Weight((*up, rank, width), last, int8_axis=-1),
            "up_bias": Weight((*up, width), "zeros", False),
        }

    def drawn(self, w: Any, draws: RandomDraws) -> Any:
        """Returns one copy of each bank; see `Piece.drawn`."""
        parts = [(side, (side, f"{side}_bias")) for side in ("down", "up")]
        return one_of_each(w, self, parts, draws)

    def feed_forward(self, w: Any, output: Tensor, draws: RandomDraws) -> Tensor:
        """Adds the adapter; see `Piece.feed_forward`."""
        hidden = numerics.linear(output, w.down, w.down_bias)
        hidden = numerics.ACTIVATIONS[self.activation](hidden)
        return output + numerics.linear(hidden, w.up, w.up_bias)
