"""Pooling by attention of the class token, whose query looks at all tokens."""

from typing import Any

import keras

from widenet_keras.layers.attention import Attention, mix
from widenet_keras.layers.linear import linear
from widenet_keras.utils import numerics
from widenet_keras.utils.roles import Role
from widenet_keras.utils.types import Shape, Tensor


def token_attention_pooled(tokens, weights, spec):
    """Returns what the first token finds in all of them, (B, D).

    Args:
        tokens: (B, T, D).
        weights: `AttentionWeights`.
        spec: `AttentionSpec`.
    """
    made = (
        linear(seen, product)
        for seen, product in zip(
            (tokens[:, :1], tokens, tokens), weights.inner, strict=True
        )
    )
    heads = (numerics.split_heads(each, spec.heads) for each in made)
    return linear(mix(heads, spec)[:, 0], weights.output)


@keras.saving.register_keras_serializable("widenet_keras")
class TokenAttentionPooling(Attention):
    """Pools tokens by attention of the first one to all: (B, T, D) -> (B, D).

    Nothing is dropped in training.

    Args:
        num_heads: H; must divide the width D of the tokens.
        **kwargs: Passed to `Attention`.

    Raises:
        ValueError: If H is no positive integer, or D does not split into it.
    """

    role = Role("head", "head")

    def call(self, tokens: Tensor) -> Tensor:  # type: ignore[override]
        """Returns what was pooled, (B, D), of tokens (B, T, D)."""
        with numerics.weights_as_stored() as read:
            return token_attention_pooled(tokens, self.read(read), self.spec)

    def compute_output_shape(self, tokens_shape: Shape, **kwargs: Any) -> Shape:
        """Returns (B, D)."""
        return tokens_shape[0], tokens_shape[-1]
