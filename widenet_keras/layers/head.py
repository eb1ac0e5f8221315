"""The classifier's head: final norm, pooling, representation, logits."""

import keras
from keras import ops

from widenet_keras.layers.normalization import EPSILON
from widenet_keras.utils.checks import check_choice, check_flag, check_integer

POOLINGS = ("mean", "token")


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
        self.logits = keras.layers.Dense(
            num_classes, dtype=self.dtype_policy, name="logits"
        )

    def build(self, tokens_shape):
        """Makes norm, representation and logits for tokens (B, T, D)."""
        pooled_shape = (tokens_shape[0], tokens_shape[-1])
        self.norm.build(tokens_shape)
        if self.representation:
            self.representation_layer = keras.layers.Dense(
                tokens_shape[-1],
                activation="tanh",
                dtype=self.dtype_policy,
                name="representation",
            )
            self.representation_layer.build(pooled_shape)
        self.logits.build(pooled_shape)

    def call(self, tokens):
        """Returns the logits, (B, classes), of tokens (B, T, D)."""
        tokens = self.norm(tokens)
        features = ops.mean(tokens, axis=1) if self.pooling == "mean" else tokens[:, 0]
        if self.representation:
            features = self.representation_layer(features)
        # The loss needs float32 whatever the policy computes in.
        return ops.cast(self.logits(features), "float32")

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
