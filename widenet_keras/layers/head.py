"""The classifier's head: final norm, pooling, representation, logits."""

from typing import NamedTuple

import keras

from widenet_keras.layers.linear import Linear, Product, built_linear, linear
from widenet_keras.layers.normalization import EPSILON, layer_norm
from widenet_keras.utils import numerics
from widenet_keras.utils.checks import check_choice, check_flag, check_integer
from widenet_keras.utils.roles import Role, built_with_role

POOLINGS = ("mean", "token")
ROLE = Role("head", "head")


class HeadWeights(NamedTuple):
    """The weights of a head.

    Attributes:
        gamma: (D,) of the final norm.
        beta: (D,) of the final norm.
        representation: `Product` from D to D, absent where there is none.
        logits: `Product` from D to the classes.
    """

    gamma: object
    beta: object
    representation: Product | tuple
    logits: Product


def pooled_features(tokens, gamma, beta, pooling):
    """Returns tokens (B, T, D) normalised and pooled, (B, D).

    Args:
        tokens: (B, T, D).
        gamma: (D,) of the final norm.
        beta: (D,) of the final norm.
        pooling: One of `POOLINGS`.
    """
    # The norm is each token's own: before it, the first one is all that is needed.
    tokens = tokens[:, 0] if pooling == "token" else tokens
    features = layer_norm(tokens, gamma, beta)
    return numerics.mean(features, 1) if pooling == "mean" else features


def head(tokens, weights, pooling):
    """Returns the logits, (B, classes) float32, of tokens (B, T, D).

    Args:
        tokens: (B, T, D).
        weights: `HeadWeights`.
        pooling: One of `POOLINGS`.
    """
    features = pooled_features(tokens, weights.gamma, weights.beta, pooling)
    if weights.representation:
        features = numerics.tanh(linear(features, weights.representation))
    # The loss needs float32 whatever the policy computes in.
    return numerics.cast(linear(features, weights.logits), "float32")


@keras.saving.register_keras_serializable("widenet_keras")
class ClassifierHead(keras.layers.Layer):
    """Turns encoded tokens into logits: (B, T, D) -> (B, classes) float32.

    Args:
        num_classes: Number of classes.
        pooling: "mean" of all tokens, or the first "token" (the class token).
        representation: Whether a Dense(D) + tanh stands before the logits.
        **kwargs: Passed to `keras.layers.Layer`.

    Raises:
        ValueError: If an argument is out of range; the line says what is allowed.
    """

    def __init__(self, num_classes, pooling="mean", representation=True, **kwargs):
        super().__init__(**kwargs)
        check_integer("ClassifierHead", "num_classes", num_classes, 1)
        check_choice("ClassifierHead", "pooling", pooling, POOLINGS)
        check_flag("ClassifierHead", "representation", representation)
        self.num_classes = num_classes
        self.pooling = pooling
        self.representation = representation
        self.norm = keras.layers.LayerNormalization(
            epsilon=EPSILON, dtype=self.dtype_policy, name="norm"
        )
        self.logits = Linear(num_classes, dtype=self.dtype_policy, name="logits")

    def build(self, tokens_shape):
        """Makes norm, representation and logits for tokens (B, T, D)."""
        pooled_shape = (tokens_shape[0], tokens_shape[-1])
        built_with_role(self.norm, tokens_shape, ROLE._replace(exact=True))
        if self.representation:
            self.representation_layer = Linear(
                tokens_shape[-1], dtype=self.dtype_policy, name="representation"
            )
            built_linear(self.representation_layer, pooled_shape, ROLE)
        built_linear(self.logits, pooled_shape, ROLE)

    def read(self, read):
        """Returns the `HeadWeights`.

        Args:
            read: Function from a Keras variable to its tensor.
        """
        representation = ()
        if self.representation:
            representation = self.representation_layer.read(read)
        return HeadWeights(
            read(self.norm.gamma),
            read(self.norm.beta),
            representation,
            self.logits.read(read),
        )

    def call(self, tokens):
        """Returns the logits, (B, classes), of tokens (B, T, D)."""
        with numerics.weights_as_stored() as read:
            return head(tokens, self.read(read), self.pooling)

    def compute_output_shape(self, tokens_shape):
        """Returns (B, classes)."""
        return tokens_shape[0], self.num_classes

    def compute_output_spec(self, tokens):
        """Returns the spec of the logits."""
        return keras.KerasTensor((tokens.shape[0], self.num_classes), "float32")

    def get_config(self):
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "pooling": self.pooling,
            "representation": self.representation,
        }
