"""Multi-head self-attention: a layer that holds weights, a function that computes."""

from typing import Any, NamedTuple

import keras
from keras import ops

from widenet_keras.layers.groups import ONE_GROUP
from widenet_keras.layers.heads import Heads, made_apart, split, with_more
from widenet_keras.layers.linear import Linear, Product, built_linear, linear
from widenet_keras.layers.pieces.step_pieces import NO_PIECES
from widenet_keras.routing.random_draws import SILENT, RandomDraws
from widenet_keras.utils import numerics
from widenet_keras.utils.checks import check_integer, check_number
from widenet_keras.utils.roles import Role
from widenet_keras.utils.types import Read, Shape, Tensor


class AttentionSpec(NamedTuple):
    """What is static about attention.

    Attributes:
        heads: H.
        key_dim: Size of a head's queries and keys.
        value_dim: Size of a head's values.
        dropout: Dropout rate of the probabilities.
    """

    heads: int
    key_dim: int
    value_dim: int
    dropout: float


class AttentionWeights(NamedTuple):
    """The four `Product`s of attention.

    Attributes:
        inner: Query, key and value, a tuple of three; or of one, which is all three
            side by side.
        output: From the heads back to the width of the tokens.
    """

    inner: tuple
    output: Product


def attention(
    tokens, weights, spec, draws, pieces=NO_PIECES, prompts=(), groups=ONE_GROUP
):
    """Returns the attended tokens, (B, T, D), and the `Heads` they were made of.

    Of groups these are those of (B G) images of T/G tokens, in the order of the groups.

    Args:
        tokens: (B, T, D).
        weights: `AttentionWeights`.
        spec: `AttentionSpec`.
        draws: `RandomDraws`.
        pieces: What the step keeps for itself.
        prompts: Normalised rows that are attended to as well, (B or 1, P, D) each.
        groups: `Groups` in which the tokens attend; all of them to every prompt.
    """
    tokens, prompts = groups.apart(tokens), [*map(groups.for_each, prompts)]
    if len(weights.inner) == 1 and not pieces:
        made = linear(tokens, weights.inner[0])
        heads = Heads(*numerics.split_joined(made, spec.heads))
        attended = heads
    else:
        made = made_apart(tokens, weights.inner, draws, pieces)
        heads = split(made, spec)
        made = with_more(made, prompts, weights, draws, pieces)
        attended = split(made, spec) if pieces else heads
    mixed = groups.together(mix(attended, spec, draws, pieces))
    output = linear(mixed, weights.output)
    if pieces:
        output = pieces.linear("output", mixed, output, draws)
    return output, heads


def mix(heads, spec, draws=SILENT, pieces=NO_PIECES):
    """Returns the values that each query finds, (B, T, H * value_dim).

    Args:
        heads: Queries, keys and values, as `numerics.attended` takes them.
        spec: `AttentionSpec`.
        draws: `RandomDraws`.
        pieces: What the step keeps for itself.
    """
    unequal = spec.key_dim != spec.value_dim and not numerics.TAKES_UNEQUAL
    drops = spec.dropout and not draws.silent
    if unequal or drops or pieces.see_attention:
        return _attended_in_parts(*heads, spec, draws, pieces)
    return numerics.attended(*heads)


def _attended_in_parts(query, key, value, spec, draws, pieces):
    """The same as `numerics.attended`, with logits and probabilities at hand."""
    found = draws.dropout(probabilities(query, key, pieces), spec.dropout)
    mixed = ops.matmul(found, numerics.heads_first(value))
    mixed = ops.transpose(mixed, (0, 2, 1, 3))
    return ops.reshape(mixed, (-1, mixed.shape[1], spec.heads * spec.value_dim))


def probabilities(query, key, pieces=NO_PIECES):
    """Returns what each query gives each key of its head, (B, H, T, S), undropped.

    Args:
        query: T of every head, as `numerics.attended` takes them.
        key: S of every head.
        pieces: What the step keeps for itself.
    """
    query, key = map(numerics.heads_first, (query, key))
    query = query * query.shape[-1] ** -0.5
    logits = ops.matmul(query, ops.transpose(key, (0, 1, 3, 2)))
    logits = pieces.logits(logits, query)
    found = numerics.cast(numerics.softmax(logits), query.dtype)
    return pieces.probabilities(found)


@keras.saving.register_keras_serializable("widenet_keras")
class Attention(keras.layers.Layer):
    """Multi-head self-attention with biases on query, key, value and output.

    Args:
        num_heads: H; must divide the width D of the tokens unless `key_dim` is given.
        dropout: Dropout rate of the attention probabilities, applied with the
            `draws` that `call` is given.
        key_dim: Size of a head's queries and keys; None for D / H.
        value_dim: Size of a head's values; None for `key_dim`.
        **kwargs: Passed to `keras.layers.Layer`.

    Raises:
        ValueError: If an argument is out of range or D does not split into H.
    """

    role = Role("core", "attention")

    def __init__(
        self,
        num_heads: int,
        dropout: float = 0.0,
        key_dim: int | None = None,
        value_dim: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        check_integer("Attention", "num_heads", num_heads, 1)
        check_number("Attention", "dropout", dropout, 0.0, below=1.0)
        for name, size in (("key_dim", key_dim), ("value_dim", value_dim)):
            if size is not None:
                check_integer("Attention", name, size, 1)
        self.num_heads = num_heads
        self.dropout = dropout
        self.key_dim = key_dim
        self.value_dim = value_dim

    def size_for(self, width: int) -> None:
        """Says what is static about it for tokens of width D, `spec`; no weights."""
        if self.key_dim is None and width % self.num_heads:
            raise ValueError(
                f"Attention: width={width} is not divisible by "
                f"num_heads={self.num_heads}; change one of them."
            )
        key_dim = self.key_dim or width // self.num_heads
        value_dim = self.value_dim or key_dim
        self.spec = AttentionSpec(self.num_heads, key_dim, value_dim, self.dropout)

    def build(self, tokens_shape: Shape) -> None:
        """Makes the four products for tokens of shape (B, T, D)."""
        width = tokens_shape[-1]
        self.size_for(width)
        heads, key_dim, value_dim, _ = self.spec
        inner = [heads * size for size in (key_dim, key_dim, value_dim)]
        merged_shape = (*tokens_shape[:-1], inner[-1])
        for name, units, shape in (
            ("query", inner[0], tokens_shape),
            ("key", inner[1], tokens_shape),
            ("value", inner[2], tokens_shape),
            ("output", width, merged_shape),
        ):
            product = Linear(units, name=name, dtype=self.dtype_policy)
            built_linear(product, shape, self.role)
            setattr(self, f"{name}_projection", product)

    def read(self, read: Read) -> AttentionWeights:
        """Returns the `AttentionWeights`.

        Args:
            read: Function from a Keras variable to its tensor.
        """
        inner = self.query_projection, self.key_projection, self.value_projection
        return AttentionWeights(
            tuple(product.read(read) for product in inner),
            self.output_projection.read(read),
        )

    def call(self, tokens: Tensor, draws: RandomDraws = SILENT) -> Tensor:
        """Returns the attended tokens, (B, T, D).

        Args:
            tokens: (B, T, D).
            draws: `RandomDraws` of the owner; the default drops nothing.
        """
        with numerics.weights_as_stored() as read:
            return attention(tokens, self.read(read), self.spec, draws)[0]

    def compute_output_shape(self, tokens_shape: Shape, **kwargs: Any) -> Shape:
        """Returns the shape of the tokens."""
        return tokens_shape

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "dropout": self.dropout,
            "key_dim": self.key_dim,
            "value_dim": self.value_dim,
        }
