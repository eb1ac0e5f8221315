"""Key-value prompts: learned keys and values of every step."""

import dataclasses
from typing import Any, ClassVar

import keras

from widenet_keras.layers.pieces.piece import Piece, Sizes, Weight
from widenet_keras.utils.checks import check_flag, check_integer
from widenet_keras.utils.types import Tensor

_OWNER = "KeyValuePrompt"


@dataclasses.dataclass(frozen=True)
class KeyValuePrompt(Piece):
    """Learned keys and values of each head that stand beside those of the tokens.

    "E2VPT" (arXiv 2307.13770): they come after the products, so that queries and the
    number of tokens stay. By default a key is its own value, as in the published code.

    Args:
        count: p.
        shared: Whether keys and values are the same numbers.

    Raises:
        ValueError: If an argument is out of range; one line says what is allowed.
    """

    kind: ClassVar[str] = "key_value_prompt"
    count: int = 5
    shared: bool = True

    def __post_init__(self):
        check_integer(_OWNER, "count", self.count, 1)
        check_flag(_OWNER, "shared", self.shared)

    def weights(self, sizes: Sizes) -> dict[str, Weight]:
        """Returns the pairs, or keys and values; see `Piece.weights`."""
        keys, values = sizes.heads * sizes.key_dim, sizes.heads * sizes.value_dim
        if self.shared and keys != values:
            raise ValueError(
                f"{_OWNER}: keys are {sizes.key_dim} and values {sizes.value_dim} wide "
                "per head, so they cannot be shared; use shared=False."
            )
        widths = {"pair": keys} if self.shared else {"key": keys, "value": values}
        start = keras.initializers.RandomNormal(stddev=0.02)
        return {
            name: Weight((self.count, width), start.clone(), False, int8_axis=-1)
            for name, width in widths.items()
        }

    def keys_and_values(self, w: Any) -> tuple[Tensor, Tensor]:
        """Returns keys and values; see `Piece.keys_and_values`."""
        return (w.pair, w.pair) if self.shared else (w.key, w.value)
