"""Pooling by attention: one learned query that looks at all tokens, then an MLP."""

from typing import Any, NamedTuple

import keras
from keras import ops

from widenet_keras.layers.feed_forward import bias_initializer, feed_forward
from widenet_keras.layers.linear import Linear, Product, built_linear, linear
from widenet_keras.layers.mlp import Mlp
from widenet_keras.layers.normalization import EPSILON, layer_norm
from widenet_keras.routing.random_draws import SILENT
from widenet_keras.utils import numerics
from widenet_keras.utils.checks import check_choice, check_integer, check_positive
from widenet_keras.utils.roles import Role, built_with_role, weight_with_role
from widenet_keras.utils.types import Read, Shape, Tensor

ROLE = Role("head", "head")


class AttentionPoolingSpec(NamedTuple):
    """What is static about pooling by attention.

    Attributes:
        heads: H.
        mlp: `Mlp`.
        epsilon: That of the norm.
    """

    heads: int
    mlp: Mlp
    epsilon: float


class AttentionPoolingWeights(NamedTuple):
    """The weights of pooling by attention.

    Attributes:
        query: (D,), the one query as the keys meet it.
        key: `Product` from D to D.
        value: `Product` from D to D.
        output: `Product` from D to D.
        norm: Pair of gamma and beta, each (D,).
        mlp: Pair of `Product`s, hidden and outer.
    """

    query: object
    key: Product
    value: Product
    output: Product
    norm: tuple
    mlp: tuple


def attention_pooled(tokens, weights, spec):
    """Returns x + MLP(LN(x)) of what the query finds in tokens, (B, D).

    Args:
        tokens: (B, T, D).
        weights: `AttentionPoolingWeights`.
        spec: `AttentionPoolingSpec`.
    """
    key, value = linear(tokens, weights.key), linear(tokens, weights.value)
    query = ops.zeros_like(key[:, :1]) + numerics.cast(weights.query, key.dtype)
    heads = (numerics.split_heads(each, spec.heads) for each in (query, key, value))
    found = linear(numerics.attended(*heads)[:, 0], weights.output)
    normal = layer_norm(found, *weights.norm, spec.epsilon)
    return found + feed_forward(normal, weights.mlp, spec.mlp, SILENT)


@keras.saving.register_keras_serializable("widenet_keras")
class AttentionPooling(keras.layers.Layer):
    """Pools tokens by attention with one learned query: (B, T, D) -> (B, D).

    The query stands for a probe and its projection, whose product is a constant.
    Nothing is dropped in training.

    Args:
        num_heads: H; must divide the width D of the tokens.
        mlp_dim: F, hidden width of the MLP.
        activation: Name of the activation of its hidden layer.
        norm_epsilon: What the norm adds to the variance.
        **kwargs: Passed to `keras.layers.Layer`.

    Raises:
        ValueError: If an argument is out of range or D does not split into H.
    """

    def __init__(
        self,
        num_heads: int,
        mlp_dim: int,
        activation: str = "gelu_tanh",
        norm_epsilon: float = EPSILON,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        owner = "AttentionPooling"
        check_integer(owner, "num_heads", num_heads, 1)
        check_integer(owner, "mlp_dim", mlp_dim, 1)
        check_choice(owner, "activation", activation, tuple(numerics.ACTIVATIONS))
        check_positive(owner, "norm_epsilon", norm_epsilon)
        self.mlp_dim = mlp_dim
        self.spec = AttentionPoolingSpec(
            num_heads, Mlp(activation, None, 0.0), norm_epsilon
        )
        self.norm = keras.layers.LayerNormalization(
            epsilon=norm_epsilon, dtype=self.dtype_policy, name="norm"
        )

    def build(self, tokens_shape: Shape) -> None:
        """Makes query, products and norm for tokens of shape (B, T, D)."""
        width, heads = tokens_shape[-1], self.spec.heads
        if width % heads:
            raise ValueError(
                f"AttentionPooling: width={width} is not divisible by "
                f"num_heads={heads}; change one of them."
            )
        self.query = weight_with_role(
            self,
            ROLE._replace(decayed=False),
            name="query",
            shape=(width,),
            initializer=keras.initializers.RandomNormal(stddev=1.0),
        )
        pooled_shape = tokens_shape[0], width

        def product(name, units, shape, **kwargs):
            layer = Linear(units, dtype=self.dtype_policy, name=name, **kwargs)
            return built_linear(layer, shape, ROLE)

        self.key_projection = product("key", width, tokens_shape)
        self.value_projection = product("value", width, tokens_shape)
        self.output_projection = product("output", width, pooled_shape)
        built_with_role(self.norm, pooled_shape, ROLE._replace(exact=True))
        hidden_shape = tokens_shape[0], self.mlp_dim
        self.hidden, self.outer = (
            product(name, units, shape, bias_initializer=bias_initializer())
            for name, units, shape in (
                ("hidden", self.mlp_dim, pooled_shape),
                ("outer", width, hidden_shape),
            )
        )

    def read(self, read: Read) -> AttentionPoolingWeights:
        """Returns the `AttentionPoolingWeights`.

        Args:
            read: Function from a Keras variable to its tensor.
        """
        return AttentionPoolingWeights(
            read(self.query),
            self.key_projection.read(read),
            self.value_projection.read(read),
            self.output_projection.read(read),
            (read(self.norm.gamma), read(self.norm.beta)),
            (self.hidden.read(read), self.outer.read(read)),
        )

    def call(self, tokens: Tensor) -> Tensor:
        """Returns what was pooled, (B, D), of tokens (B, T, D)."""
        with numerics.weights_as_stored() as read:
            return attention_pooled(tokens, self.read(read), self.spec)

    def compute_output_shape(self, tokens_shape: Shape) -> Shape:
        """Returns (B, D)."""
        return tokens_shape[0], tokens_shape[-1]

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "num_heads": self.spec.heads,
            "mlp_dim": self.mlp_dim,
            "activation": self.spec.mlp.activation,
            "norm_epsilon": self.spec.epsilon,
        }
