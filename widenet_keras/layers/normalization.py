"""Layer normalisation whose scale and offset are stacked over the steps."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras

from widenet_keras.utils import numerics
from widenet_keras.utils.checks import check_integer, check_positive
from widenet_keras.utils.roles import Role, weight_with_role
from widenet_keras.utils.types import Read, Shape, Tensor

EPSILON = 1e-6
ROLE = Role("norms", "norms of the steps", decayed=False, stacked="steps", exact=True)


class StepNorms(NamedTuple):
    """Scale and offset of the two norms of one step, each (D,).

    Attributes:
        gamma1: Scale of the norm before attention.
        beta1: Offset of that.
        gamma2: Scale of the norm before the feed-forward part.
        beta2: Offset of that.
    """

    gamma1: object
    beta1: object
    gamma2: object
    beta2: object


@functools.partial(numerics.recomputed, static=(3,))
def layer_norm(x, gamma, beta, epsilon):
    """Normalises the last axis, computing in float32 whatever the dtype of `x`.

    Args:
        x: (B, T, D).
        gamma: (D,) scale.
        beta: (D,) offset.
        epsilon: What is added to the variance, a constant.
    """
    return numerics.normalized(x, gamma, beta, epsilon)


@keras.saving.register_keras_serializable("widenet_keras")
class StackedNorms(keras.layers.Layer):
    """Holds scale and offset of one norm for every step: gamma and beta (L, D).

    Stacked, because a scan over the depth wants the private pieces of all
    steps as one array. The norm itself is `layer_norm`.

    Args:
        rows: L, or U where steps that share a block share its norms too.
        epsilon: What is added to the variance.
        **kwargs: Passed to `keras.layers.Layer`.
    """

    def __init__(self, rows: int, epsilon: float = EPSILON, **kwargs: Any):
        super().__init__(**kwargs)
        check_integer("StackedNorms", "rows", rows, 1)
        check_positive("StackedNorms", "epsilon", epsilon)
        self.rows = rows
        self.epsilon = epsilon

    def build(self, tokens_shape: Shape) -> None:
        """Makes gamma and beta for tokens of shape (B, T, D)."""
        shape = (self.rows, tokens_shape[-1])
        # Not autocast: `layer_norm` computes in float32 under every policy.
        self.gamma, self.beta = (
            weight_with_role(
                self,
                ROLE,
                name=name,
                shape=shape,
                initializer=start,
                autocast=False,
            )
            for name, start in (("gamma", "ones"), ("beta", "zeros"))
        )

    def read(self, read: Read, rows: Sequence[int] | None = None) -> tuple:
        """Returns gamma and beta, (L, D) each.

        Args:
            read: Function from a Keras variable to its tensor.
            rows: Which row each step reads, a tuple of length L; None for its own.
        """
        stored = read(self.gamma), read(self.beta)
        if rows is None:
            return stored
        index = keras.ops.convert_to_tensor(rows, dtype="int32")
        return tuple(keras.ops.take(leaf, index, axis=0) for leaf in stored)

    def call(self, tokens: Tensor, row: int) -> Tensor:
        """Returns the tokens, (B, T, D), normalised with the given row."""
        return layer_norm(tokens, self.gamma[row], self.beta[row], self.epsilon)

    def compute_output_spec(self, tokens: Tensor, row: int) -> keras.KerasTensor:
        """Returns the spec of the tokens."""
        return keras.KerasTensor(tokens.shape, dtype=self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "rows": self.rows, "epsilon": self.epsilon}
