"""Queries, keys and values of heads: what makes them of tokens, prompts and pairs."""

from typing import NamedTuple

import keras

from widenet_keras.layers.linear import Product, linear
from widenet_keras.utils import numerics

_SMALL_WIDTH = 128
_INNER = ("query", "key", "value")


class Heads(NamedTuple):
    """Queries, keys and values of one step.

    Each as `numerics.attended` takes them; `tokens_first` makes them (B, T, H, d).
    """

    queries: object
    keys: object
    values: object

    def tokens_first(self):
        """Returns them as (B, T, H, d)."""
        return Heads(*map(numerics.tokens_first, self))


class HeadsOfPaths(NamedTuple):
    """The `Heads` of each of n parallel paths, n H heads of one step."""

    paths: tuple

    def tokens_first(self):
        """Returns one `Heads`, (B, T, n H, d), those of the first path in front."""
        each = zip(*(heads.tokens_first() for heads in self.paths), strict=True)
        return Heads(*(numerics.concatenated(parts, 2) for parts in each))


def joins_inner(width, reads):
    """Whether query, key and value shall be one product.

    It pays where a block is read more than once, or where kernels are so small that
    the number of products is what counts. On JAX it does not: XLA copies the three
    parts out of the product, and their gradients into one array, which moves more than
    reading the tokens three times does (`benchmarks/gpu_program.py`).

    Args:
        width: D.
        reads: How many steps read the block.
    """
    on_jax = keras.backend.backend() == "jax"
    return not on_jax and (width <= _SMALL_WIDTH or reads > 1)


def joined_inner(weights):
    """Returns `AttentionWeights` with one product for query, key and value.

    One large product is faster than three where joining the kernels, a copy, is paid
    once for many of them. What is quantised, or of unequal sizes, stays apart.
    """
    sizes = {product.kernel.shape[-1] for product in weights.inner}
    if len(sizes) > 1 or any(
        not isinstance(product.scale, tuple) for product in weights.inner
    ):
        return weights
    kernels, biases, _ = zip(*weights.inner, strict=True)
    joined = Product(
        numerics.concatenated(kernels, -1), numerics.concatenated(biases, -1)
    )
    return weights._replace(inner=(joined,))


def made_apart(rows, inner, draws, pieces, names=_INNER):
    """Returns what is named of rows (B, T, D), (B, T, H d) each.

    Args:
        rows: (B, T, D).
        inner: Tuple of a `Product` for each name; or of one, which is all side by side.
        draws: `RandomDraws`.
        pieces: What the step keeps for itself.
        names: Some of "query", "key" and "value".
    """
    if len(inner) == 1:
        made = numerics.split(linear(rows, inner[0]), len(names))
    else:
        made = [linear(rows, product) for product in inner]
    if not pieces:
        return made
    return [
        pieces.linear(name, rows, each, draws)
        for name, each in zip(names, made, strict=True)
    ]


def _without_query(inner):
    """Returns the `Product`s of keys and values, as `made_apart` takes them."""
    if len(inner) > 1:
        return inner[1:]
    kernel, bias, _ = inner[0]
    size = kernel.shape[1] // len(_INNER)
    return (Product(kernel[:, size:], bias[size:]),)


def with_more(made, prompts, weights, draws, pieces):
    """Returns queries, and keys and values with those that only pieces have in front.

    Args:
        made: Queries, keys and values, (B, T, H d) each.
        prompts: As for `attention`.
        weights: `AttentionWeights`.
        draws: `RandomDraws`.
        pieces: What the step keeps for itself.
    """
    inner, names = _without_query(weights.inner) if prompts else (), _INNER[1:]
    more = [made_apart(rows, inner, draws, pieces, names) for rows in prompts]
    more += pieces.keys_and_values()
    if not more:
        return made
    query, *extended = made
    for place, each in enumerate(extended):
        rows = (numerics.cast(pair[place], each.dtype) for pair in more)
        in_front = [numerics.for_each_image(some, each) for some in rows]
        extended[place] = numerics.concatenated([*in_front, each], 1)
    return query, *extended


def split(made, spec):
    """Returns the `Heads` of queries, keys and values, (B, T, H d) each."""
    return Heads(*(numerics.split_heads(each, spec.heads) for each in made))
