"""The classifier's head: final norm, pooling, representation, logits."""

from typing import Any, NamedTuple, Self

import keras

from widenet_keras.layers.attention_pooling import AttentionPooling
from widenet_keras.layers.linear import Linear, Product, built_linear, linear
from widenet_keras.layers.normalization import EPSILON
from widenet_keras.layers.pooling import (
    POOLINGS,
    PoolingSpec,
    PoolingWeights,
    check_pooling,
    pooled_features,
)
from widenet_keras.layers.token_attention_pooling import TokenAttentionPooling
from widenet_keras.utils import numerics
from widenet_keras.utils.building import build_once
from widenet_keras.utils.checks import check_flag, check_integer, check_positive
from widenet_keras.utils.roles import Role, built_with_role
from widenet_keras.utils.types import Read, Shape, Tensor

ROLE = Role("head", "head")
_ATTENTIONS = {"attention": AttentionPooling, "token_attention": TokenAttentionPooling}


class HeadWeights(NamedTuple):
    """The weights of a head; absent parts are `()`.

    Attributes:
        pooling: `PoolingWeights`.
        representation: `Product` from D to D.
        logits: `Product` from D, or 2 D, to the classes.
    """

    pooling: PoolingWeights
    representation: Product | tuple
    logits: Product | tuple


def head(tokens, weights, spec):
    """Returns the logits, (B, classes) float32, of tokens (B, T, D).

    Without a product to the classes it returns what that would have taken.

    Args:
        tokens: (B, T, D).
        weights: `HeadWeights`.
        spec: `PoolingSpec`.
    """
    features = pooled_features(tokens, weights.pooling, spec)
    if weights.representation:
        features = numerics.tanh(linear(features, weights.representation))
    if weights.logits:
        features = linear(features, weights.logits)
    # The loss needs float32 whatever the policy computes in.
    return numerics.cast(features, "float32")


@keras.saving.register_keras_serializable("widenet_keras")
class ClassifierHead(keras.layers.Layer):
    """Turns encoded tokens into logits: (B, T, D) -> (B, classes) float32.

    Args:
        num_classes: Number of classes; 0 for no logits, but the features before them.
        pooling: "mean" of all tokens, the first "token" (the class token), the mean
            of the "patches"; "token_and_patches" or "token_and_register" (the second
            token) side by side; "attention" over the patches; or "token_attention",
            that of the class token over all tokens.
        representation: Whether a Dense(D) + tanh stands before the logits.
        leading_tokens: How many tokens lead the patches: class token and registers.
        norm_after_pooling: Whether the norm follows the pooling, which makes a
            difference with "mean", "patches" and "attention".
        norm_epsilon: What the norm adds to the variance.
        attention: `AttentionPooling` for the pooling "attention", and
            `TokenAttentionPooling` for "token_attention" only.
        **kwargs: Passed to `keras.layers.Layer`.

    Raises:
        ValueError: If an argument is out of range; the line says what is allowed.
    """

    def __init__(
        self,
        num_classes: int,
        pooling: str = "mean",
        representation: bool = True,
        leading_tokens: int = 1,
        norm_after_pooling: bool = False,
        norm_epsilon: float = EPSILON,
        attention: keras.layers.Layer | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        owner = "ClassifierHead"
        check_integer(owner, "num_classes", num_classes, 0)
        check_flag(owner, "representation", representation)
        check_integer(owner, "leading_tokens", leading_tokens, 0)
        check_positive(owner, "norm_epsilon", norm_epsilon)
        check_pooling(owner, pooling, norm_after_pooling, representation)
        if not isinstance(attention, _ATTENTIONS.get(pooling, type(None))):
            raise ValueError(
                f"{owner}: pooling={pooling!r} and attention={attention!r}; give an "
                "AttentionPooling with pooling='attention', a TokenAttentionPooling "
                "with 'token_attention', and nothing with others."
            )
        self.num_classes = num_classes
        self.representation = representation
        self.attention = attention
        self.spec = PoolingSpec(
            pooling, leading_tokens, norm_after_pooling, norm_epsilon
        )
        self.norm = keras.layers.LayerNormalization(
            epsilon=norm_epsilon, dtype=self.dtype_policy, name="norm"
        )
        self.logits = None
        if num_classes:
            self.logits = Linear(num_classes, dtype=self.dtype_policy, name="logits")

    def build(self, tokens_shape: Shape) -> None:
        """Makes norm, pooling, representation and logits for tokens (B, T, D)."""
        count, width = tokens_shape[1:]
        if self.spec.kind == "token_and_register" and count is not None and count < 2:
            raise ValueError(
                f"ClassifierHead: pooling='token_and_register' reads two tokens and "
                f"there is {count}; give another pooling."
            )
        pooled_shape = tokens_shape[0], POOLINGS[self.spec.kind] * width
        built_with_role(self.norm, tokens_shape, ROLE._replace(exact=True))
        if self.attention is not None:
            build_once(self.attention, tokens_shape)
            self.spec = self.spec._replace(attention=self.attention.spec)
        if self.representation:
            self.representation_layer = Linear(
                width, dtype=self.dtype_policy, name="representation"
            )
            built_linear(self.representation_layer, pooled_shape, ROLE)
        if self.logits is not None:
            built_linear(self.logits, pooled_shape, ROLE)

    def read(self, read: Read) -> HeadWeights:
        """Returns the `HeadWeights`.

        Args:
            read: Function from a Keras variable to its tensor.
        """
        representation = ()
        if self.representation:
            representation = self.representation_layer.read(read)
        logits = () if self.logits is None else self.logits.read(read)
        return HeadWeights(self.read_pooling(read), representation, logits)

    def read_pooling(self, read: Read) -> PoolingWeights:
        """Returns the `PoolingWeights`; `read` as for `read`."""
        attention = () if self.attention is None else self.attention.read(read)
        return PoolingWeights(read(self.norm.gamma), read(self.norm.beta), attention)

    def call(self, tokens: Tensor) -> Tensor:
        """Returns the logits, (B, classes), of tokens (B, T, D)."""
        with numerics.weights_as_stored() as read:
            return head(tokens, self.read(read), self.spec)

    def compute_output_shape(self, tokens_shape: Shape) -> Shape:
        """Returns (B, classes), or (B, features) without classes."""
        features = POOLINGS[self.spec.kind] * tokens_shape[-1]
        return tokens_shape[0], self.num_classes or features

    def compute_output_spec(self, tokens: Tensor) -> keras.KerasTensor:
        """Returns the spec of the logits."""
        return keras.KerasTensor(self.compute_output_shape(tokens.shape), "float32")

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "pooling": self.spec.kind,
            "representation": self.representation,
            "leading_tokens": self.spec.leading,
            "norm_after_pooling": self.spec.norm_after,
            "norm_epsilon": self.spec.epsilon,
            "attention": keras.saving.serialize_keras_object(self.attention),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Rebuilds the head and its pooling."""
        attention = keras.saving.deserialize_keras_object(config.get("attention"))
        return cls(**{**config, "attention": attention})
