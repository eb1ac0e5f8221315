"""Multi-head self-attention of our own, so that later work can reach inside."""

import keras
from keras import ops

from widenet_keras.routing.random_draws import SILENT
from widenet_keras.utils.checks import check_integer, check_number
from widenet_keras.utils.numerics import softmax


@keras.saving.register_keras_serializable("widenet_keras")
class Attention(keras.layers.Layer):
    """Multi-head self-attention with biases on query, key, value and output.

    Args:
        num_heads: H; must divide the width D of the tokens.
        dropout: Dropout rate of the attention probabilities, applied with the
            `draws` that `call` is given.
        **kwargs: Passed to `keras.layers.Layer`.

    Raises:
        ValueError: If an argument is out of range or D does not split into H.
    """

    def __init__(self, num_heads, dropout=0.0, **kwargs):
        super().__init__(**kwargs)
        check_integer("Attention", "num_heads", num_heads, 1)
        check_number("Attention", "dropout", dropout, 0.0, below=1.0)
        self.num_heads = num_heads
        self.dropout = dropout

    def build(self, tokens_shape):
        """Makes the four projections for tokens of shape (B, T, D)."""
        width = tokens_shape[-1]
        if width % self.num_heads:
            raise ValueError(
                f"Attention: width={width} is not divisible by "
                f"num_heads={self.num_heads}; change one of them."
            )
        for name in ("query", "key", "value", "output"):
            projection = keras.layers.Dense(width, name=name, dtype=self.dtype_policy)
            projection.build(tokens_shape)
            setattr(self, f"{name}_projection", projection)

    def call(self, tokens, draws=SILENT):
        """Returns the attended tokens, (B, T, D).

        Args:
            tokens: (B, T, D).
            draws: `RandomDraws` of the owner; the default drops nothing.
        """
        query = self._heads(self.query_projection(tokens))
        key = self._heads(self.key_projection(tokens))
        value = self._heads(self.value_projection(tokens))
        if self.dropout and not draws.silent:
            attended = self._attend_with_dropout(query, key, value, draws)
        else:
            attended = ops.dot_product_attention(query, key, value)
        merged = ops.reshape(attended, (-1, *tokens.shape[1:]))
        return self.output_projection(merged)

    def _heads(self, x):
        """(B, T, D) -> (B, T, H, D/H)."""
        width = x.shape[-1] // self.num_heads
        return ops.reshape(x, (-1, x.shape[1], self.num_heads, width))

    def _attend_with_dropout(self, query, key, value, draws):
        """The same attention with its probabilities at hand."""
        scale = query.shape[-1] ** -0.5
        query = ops.transpose(query, (0, 2, 1, 3))
        key = ops.transpose(key, (0, 2, 3, 1))
        value = ops.transpose(value, (0, 2, 1, 3))
        logits = ops.matmul(query * scale, key)
        probabilities = ops.cast(softmax(logits), value.dtype)
        probabilities = draws.dropout(probabilities, self.dropout)
        return ops.transpose(ops.matmul(probabilities, value), (0, 2, 1, 3))

    def compute_output_shape(self, tokens_shape, **kwargs):
        """Returns the shape of the tokens."""
        return tokens_shape

    def get_config(self):
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "dropout": self.dropout,
        }
