"""One transformer block: attention and a feed-forward part, with residuals."""

import keras

from widenet_keras.layers.normalization import layer_norm
from widenet_keras.layers.routed_experts import RoutedExperts
from widenet_keras.routing.random_draws import SILENT
from widenet_keras.utils.building import build_once
from widenet_keras.utils.checks import check_number


@keras.saving.register_keras_serializable("widenet_keras")
class Block(keras.layers.Layer):
    """x = x + Attn(LN1(x)); x = x + FFN(LN2(x)), with the norms handed in.

    A block knows nothing about depth: what is private to a step comes as
    arguments, so that one block can serve every step.

    Args:
        attention: An `Attention` layer.
        feed_forward: `FeedForward`, or `RoutedExperts`.
        dropout: Dropout rate of both branches before the residual.
        **kwargs: Passed to `keras.layers.Layer`.
    """

    def __init__(self, attention, feed_forward, dropout=0.0, **kwargs):
        super().__init__(**kwargs)
        check_number("Block", "dropout", dropout, 0.0, below=1.0)
        self.attention = attention
        self.feed_forward = feed_forward
        self.dropout = dropout

    @property
    def is_routed(self):
        """Whether the feed-forward part is a mixture of experts."""
        return isinstance(self.feed_forward, RoutedExperts)

    def build(self, tokens_shape):
        """Builds both parts for tokens of shape (B, T, D)."""
        build_once(self.attention, tokens_shape)
        build_once(self.feed_forward, tokens_shape)

    def call(self, tokens, norms, draws=SILENT, drop_path=0.0, training=None):
        """Returns the tokens after this block and its routing record.

        Args:
            tokens: (B, T, D).
            norms: `StepNorms` of the step.
            draws: `RandomDraws` of the owner; the default draws nothing.
            drop_path: Rate at which the branches of an image are dropped.
            training: Whether capacity holds in a mixture of experts.

        Returns:
            Tokens (B, T, D), and a `RoutingRecord`; for a dense block `()`, since
            Keras' functional models refuse None among the outputs.
        """

        def residual(tokens, branch):
            branch = draws.dropout(branch, self.dropout)
            return tokens + draws.drop_path(branch, drop_path)

        normal = layer_norm(tokens, norms.gamma1, norms.beta1)
        tokens = residual(tokens, self.attention(normal, draws=draws))
        normal = layer_norm(tokens, norms.gamma2, norms.beta2)
        record = ()
        if self.is_routed:
            branch, record = self.feed_forward(normal, draws=draws, training=training)
        else:
            branch = self.feed_forward(normal, draws=draws)
        return residual(tokens, branch), record

    def compute_output_spec(self, tokens, *args, **kwargs):
        """Returns the specs of the tokens and of the record."""
        if self.is_routed:
            return self.feed_forward.compute_output_spec(tokens)
        return keras.KerasTensor(tokens.shape, dtype=self.compute_dtype), ()

    def get_config(self):
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "attention": keras.saving.serialize_keras_object(self.attention),
            "feed_forward": keras.saving.serialize_keras_object(self.feed_forward),
            "dropout": self.dropout,
        }

    @classmethod
    def from_config(cls, config):
        """Rebuilds the block and its parts."""
        parts = {
            name: keras.saving.deserialize_keras_object(config[name])
            for name in ("attention", "feed_forward")
        }
        return cls(**{**config, **parts})
