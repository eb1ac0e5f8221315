"""The dense feed-forward part: one MLP, the same for every token."""

from typing import Any

import keras

from widenet_keras.layers.linear import Linear, Product, built_linear, linear
from widenet_keras.layers.mlp import Mlp
from widenet_keras.layers.pieces.step_pieces import NO_PIECES
from widenet_keras.routing.random_draws import SILENT, RandomDraws
from widenet_keras.utils import numerics
from widenet_keras.utils.checks import (
    check_choice,
    check_flag,
    check_integer,
    check_number,
)
from widenet_keras.utils.roles import Role
from widenet_keras.utils.types import Read, Shape, Tensor

# Biases start at almost zero, as in the authors' network.
BIAS_INITIALIZER = {
    "class_name": "RandomNormal",
    "config": {"mean": 0.0, "stddev": 1e-6},
}


def bias_initializer():
    """Returns a fresh initializer, so that no two biases share its seed."""
    return keras.initializers.get(BIAS_INITIALIZER)


def narrowed(weights, hidden):
    """Returns the `Product`s of the first `hidden` units of a dense MLP."""
    first, outer, *gate = weights
    return (
        first.narrowed(outputs=hidden),
        outer.narrowed(inputs=hidden),
        *(product.narrowed(outputs=hidden) for product in gate),
    )


def feed_forward(tokens, weights, mlp, draws, pieces=NO_PIECES, share=()):
    """Returns the MLP of tokens, (B, T, D).

    Args:
        tokens: (B, T, D).
        weights: The `Product`s of the hidden and the outer layer, a pair; of a gated
            MLP a third one, of the gate.
        mlp: `Mlp`.
        draws: `RandomDraws`.
        pieces: What the step keeps for itself.
        share: Which part of the hidden units takes part, as for `block`.
    """
    hidden = linear(tokens, weights[0])
    if pieces:
        hidden = pieces.linear("hidden", tokens, hidden, draws)

    def outer(hidden, product, *gate):
        hidden = mlp.activated(hidden, draws, *gate)
        if not isinstance(share, tuple):
            # After the activation, which need not be 0 at 0, and before what reads it.
            hidden = hidden * numerics.prefix(share, hidden)
        output = linear(hidden, product)
        return pieces.linear("outer", hidden, output, draws) if pieces else output

    gate = [linear(tokens, product) for product in weights[2:]]
    if pieces and gate:
        gate = [pieces.linear("gate", tokens, *gate, draws)]
    return mlp.finished(numerics.recomputed(outer)(hidden, weights[1], *gate))


class FeedForwardBase(keras.layers.Layer):
    """What the dense MLP and the bank of experts have in common."""

    def __init__(
        self,
        hidden_dim: int,
        activation: str = "gelu_tanh",
        output_activation: str | None = None,
        dropout: float = 0.0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        owner, known = type(self).__name__, tuple(numerics.ACTIVATIONS)
        check_integer(owner, "hidden_dim", hidden_dim, 1)
        check_number(owner, "dropout", dropout, 0.0, below=1.0)
        check_choice(owner, "activation", activation, known)
        if output_activation is not None:
            check_choice(owner, "output_activation", output_activation, known)
        self.hidden_dim = hidden_dim
        self.activation = activation
        self.output_activation = output_activation
        self.dropout = dropout
        self.mlp = Mlp(activation, output_activation, dropout)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "hidden_dim": self.hidden_dim,
            "activation": self.activation,
            "output_activation": self.output_activation,
            "dropout": self.dropout,
        }


@keras.saving.register_keras_serializable("widenet_keras")
class FeedForward(FeedForwardBase):
    """One dense MLP: D -> F -> D, the same for every token.

    Args:
        hidden_dim: F.
        activation: Name of the activation of the hidden layer.
        output_activation: Name of an activation of the output, or None. The
            authors' network has "gelu_tanh" here; the paper has none.
        dropout: Dropout rate of the hidden layer, applied with the `draws` that `call`
            is given.
        gated: Whether the activated hidden layer is multiplied by a second product of
            the tokens, the gate ("GLU Variants Improve Transformer").
        **kwargs: Passed to `keras.layers.Layer`.

    Raises:
        ValueError: If an argument is out of range; the line says what is allowed.
    """

    role = Role("core", "dense MLPs")

    def __init__(
        self,
        hidden_dim: int,
        activation: str = "gelu_tanh",
        output_activation: str | None = None,
        dropout: float = 0.0,
        gated: bool = False,
        **kwargs: Any,
    ):
        super().__init__(hidden_dim, activation, output_activation, dropout, **kwargs)
        check_flag("FeedForward", "gated", gated)
        self.gated = gated

    @property
    def spec(self) -> Mlp:
        """What is static about it, a `Mlp`."""
        return self.mlp

    def build(self, tokens_shape: Shape) -> None:
        """Makes the two products for tokens of shape (B, T, D)."""

        def product(name, units, shape):
            layer = Linear(
                units,
                bias_initializer=bias_initializer(),
                dtype=self.dtype_policy,
                name=name,
            )
            return built_linear(layer, shape, self.role)

        self.hidden = product("hidden", self.hidden_dim, tokens_shape)
        hidden_shape = (*tokens_shape[:-1], self.hidden_dim)
        self.outer = product("outer", tokens_shape[-1], hidden_shape)
        if self.gated:
            self.gate = product("gate", self.hidden_dim, tokens_shape)

    def read(self, read: Read) -> tuple[Product, ...]:
        """Returns the `Product`s of the hidden and the outer layer, and of a gate.

        Args:
            read: Function from a Keras variable to its tensor.
        """
        products = self.hidden, self.outer, *([self.gate] if self.gated else [])
        return tuple(product.read(read) for product in products)

    def call(self, tokens: Tensor, draws: RandomDraws = SILENT) -> Tensor:
        """Returns (B, T, D) for tokens (B, T, D); `draws` as for `Attention`."""
        with numerics.weights_as_stored() as read:
            return feed_forward(tokens, self.read(read), self.mlp, draws)

    def compute_output_shape(self, tokens_shape: Shape, **kwargs: Any) -> Shape:
        """Returns the shape of the tokens."""
        return tokens_shape

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "gated": self.gated}
