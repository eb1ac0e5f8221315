"""One transformer block: attention and a feed-forward part, with residuals."""

from typing import Any, Self

import keras

from widenet_keras.layers.block_math import BlockSpec, BlockWeights, block
from widenet_keras.layers.heads import joined_inner
from widenet_keras.layers.normalization import EPSILON, StepNorms
from widenet_keras.layers.parallel_paths import ParallelPaths, paths_of
from widenet_keras.layers.pieces.piece import Sizes
from widenet_keras.layers.routed_experts import RoutedExperts
from widenet_keras.routing.random_draws import SILENT, RandomDraws
from widenet_keras.routing.record import RoutingRecord, record_of
from widenet_keras.utils import numerics
from widenet_keras.utils.building import build_once
from widenet_keras.utils.checks import check_number, check_positive
from widenet_keras.utils.types import Read, Shape, Tensor


@keras.saving.register_keras_serializable("widenet_keras")
class Block(keras.layers.Layer):
    """A layer that holds the weights of one block; `block` computes with them.

    Args:
        attention: An `Attention` layer, or `ParallelPaths` of them.
        feed_forward: `FeedForward`, `ParallelPaths` of them, or `RoutedExperts`.
        dropout: Dropout rate of both branches before the residual, applied with the
            `draws` that `call` is given.
        norm_epsilon: What the norms add to the variance.
        **kwargs: Passed to `keras.layers.Layer`.
    """

    def __init__(
        self,
        attention: keras.layers.Layer,
        feed_forward: keras.layers.Layer,
        dropout: float = 0.0,
        norm_epsilon: float = EPSILON,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        check_number("Block", "dropout", dropout, 0.0, below=1.0)
        check_positive("Block", "norm_epsilon", norm_epsilon)
        self.attention = attention
        self.feed_forward = feed_forward
        self.dropout = dropout
        self.norm_epsilon = norm_epsilon

    @property
    def is_routed(self) -> bool:
        """Whether the feed-forward part is a mixture of experts."""
        return isinstance(self.feed_forward, RoutedExperts)

    def build(self, tokens_shape: Shape) -> None:
        """Builds both parts for tokens of shape (B, T, D)."""
        build_once(self.attention, tokens_shape)
        build_once(self.feed_forward, tokens_shape)

    @property
    def hidden_dim(self) -> int:
        """F, hidden width of the dense MLP or of each expert."""
        if self.is_routed:
            return self.feed_forward.experts.hidden_dim
        return _one_of(self.feed_forward).hidden_dim

    @property
    def paths(self) -> int:
        """The most parallel paths that a part has; 1 without any."""
        return max(len(paths_of(part)) for part in (self.attention, self.feed_forward))

    def sizes(self, width: int, tokens: int = 0) -> Sizes:
        """Returns the `Sizes` that pieces of this block may depend on.

        Args:
            width: D.
            tokens: T; 0 where it is not known.
        """
        heads = _one_of(self.attention).spec[:3]
        sizes = Sizes(width, *heads, tokens=tokens)
        if self.is_routed:
            bank = self.feed_forward.experts
            return sizes._replace(
                experts=bank.num_experts, expert_hidden=bank.hidden_dim
            )
        part = _one_of(self.feed_forward)
        return sizes._replace(hidden=part.hidden_dim, gated=part.gated)

    def spec(self, training: bool | None, hands_out: bool = True) -> BlockSpec:
        """Returns the `BlockSpec` of a forward pass.

        Args:
            training: Whether capacity holds in a mixture of experts.
            hands_out: Whether somebody wants the `RoutingFacts`.
        """
        part = self.feed_forward
        part = part.spec(training, hands_out) if self.is_routed else part.spec
        return BlockSpec(
            self.attention.spec, part, self.dropout, self.norm_epsilon, self.hidden_dim
        )

    def read_attention(self, read: Read, joins: bool = False) -> Any:
        """Returns the `AttentionWeights`, or the `PathsWeights` of parallel paths.

        Args:
            read: Function from a Keras variable to its tensor.
            joins: Whether query, key and value become one product.
        """
        own = self.attention.read(read)
        if not joins:
            return own
        if isinstance(self.attention, ParallelPaths):
            return own._replace(paths=tuple(map(joined_inner, own.paths)))
        return joined_inner(own)

    def read_feed_forward(
        self, read: Read, training: bool | None, changes: bool = False, share: Any = ()
    ) -> Any:
        """Returns the `RoutedWeights`, or the `Product`s or `PathsWeights` of MLPs.

        Args:
            read: Function from a Keras variable to its tensor.
            training: As for `spec`.
            changes: Whether every step changes the weights of its mixture, and so
                makes the `Bank` of them itself.
            share: As for `RoutedExperts.read`.
        """
        part = self.feed_forward
        if not self.is_routed:
            return part.read(read)
        return part.read_stacked(read) if changes else part.read(read, training, share)

    def call(
        self,
        tokens: Tensor,
        norms: StepNorms,
        draws: RandomDraws = SILENT,
        drop_path: float = 0.0,
        training: bool | None = None,
    ) -> tuple[Tensor, RoutingRecord | tuple]:
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
        with numerics.weights_as_stored() as read:
            own = self.read_attention(read), self.read_feed_forward(read, training)
            weights, spec = BlockWeights(*own), self.spec(training)
            tokens, facts, _ = block(tokens, norms, weights, spec, draws, drop_path)
        return tokens, record_of(facts, self.feed_forward.softmaxes) if facts else ()

    def compute_output_spec(self, tokens: Tensor, *args: Any, **kwargs: Any) -> Any:
        """Returns the specs of the tokens and of the record."""
        if self.is_routed:
            return self.feed_forward.compute_output_spec(tokens)
        return keras.KerasTensor(tokens.shape, dtype=self.compute_dtype), ()

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "attention": keras.saving.serialize_keras_object(self.attention),
            "feed_forward": keras.saving.serialize_keras_object(self.feed_forward),
            "dropout": self.dropout,
            "norm_epsilon": self.norm_epsilon,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Rebuilds the block and its parts."""
        parts = {
            name: keras.saving.deserialize_keras_object(config[name])
            for name in ("attention", "feed_forward")
            if isinstance(config[name], dict)
        }
        return cls(**{**config, **parts})


def _one_of(part):
    """Returns one sub-layer of a part, of which parallel paths have several alike."""
    return next(iter(paths_of(part).values()))
