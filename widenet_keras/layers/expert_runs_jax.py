"""Runs of rows on JAX, whose shapes are static: blocks, or one ragged product.

On CPU a ragged product computes all experts, so each run is cut into equal
blocks of one of a few static sizes, as close to the run as they get; loops with
as many turns as there are blocks do the rest. A block that reaches over the end
of its run writes into rows that a later expert, or nobody, then sets.
"""

import functools

import jax
import jax.numpy as jnp

from widenet_keras.layers.mlp import ExpertWeights
from widenet_keras.routing.random_draws import RandomDraws
from widenet_keras.utils.execution import has_kernels
from widenet_keras.utils.numerics import linear

# Each size is compiled, so they are few where runs are short and dense where the
# time goes: any run of over 256 rows fits blocks that waste a few per cent.
BLOCK_SIZES = (16, 32, 64, 96, 128, 192, *range(256, 513, 16))
# What a block costs besides its rows, in rows: short products are slow products.
BLOCK_COST = 24
# Rows and columns of a tile of the kernels of tokamax on NVIDIA GPUs.
_TILE = 64


def run_by_expert(mlp, rows, sizes, bank, draws, ragged=None):
    """Returns what each expert makes of its run of rows, (N, D).

    Args:
        mlp: `Mlp`.
        rows: (N, D), sorted by expert.
        sizes: (E,) int32; rows behind the last run come out as zeros.
        bank: `Bank` in the dtype of the rows.
        draws: `RandomDraws`.
        ragged: Whether one ragged product does them all; None for where it has
            kernels of its own: on TPUs, and on GPUs where the extra "kernels" is
            installed.
    """
    if ragged is None:
        platform = jax.default_backend()
        ragged = platform == "tpu" or (platform == "gpu" and has_kernels())
    if ragged:
        return _ragged(mlp, rows, sizes, bank.stacked, draws)
    return _blocks(mlp, rows, sizes, bank.stacked, draws.seed)


def _ragged(mlp, rows, sizes, weights, draws):
    count = len(rows)
    rows = jnp.pad(rows, ((0, -count % _TILE), (0, 0)))
    served = _served(rows, sizes)
    # Not every kernel writes rows that are of no run, so they join the last one.
    sizes = sizes.at[-1].add(len(rows) - jnp.sum(sizes))
    ends, place = jnp.cumsum(sizes), jnp.arange(len(rows))[:, None]
    chosen = ((place >= ends - sizes) & (place < ends)).astype(rows.dtype)

    def linear(rows, kernel, bias):
        # A row's bias by a product, since the gradient of an index adds row by row.
        product = _ragged_dot(rows, kernel, sizes).astype(rows.dtype)
        return product + chosen @ bias

    return (mlp(rows, weights, draws, linear) * served)[:count]


def _ragged_dot(rows, kernel, sizes):
    """Returns the product of each run of rows with the kernel of its expert, (N, F).

    XLA's own computes all experts on NVIDIA GPUs (marin-community/marin 7012). It takes
    what the kernels of `tokamax` refuse there: widths that are no whole tiles.
    """
    if not (has_kernels() and all(map(_is_tiled, kernel.shape[1:]))):
        return jax.lax.ragged_dot(rows, kernel, sizes)
    import tokamax
    from absl import flags

    if not flags.FLAGS.is_parsed():
        # Or it takes the command line of the program for its own, and ends it.
        flags.FLAGS.mark_as_parsed()
    return tokamax.ragged_dot(rows, kernel, group_sizes=sizes)


def _is_tiled(width):
    """Whether rows of a width are whole tiles, or part of one in steps of 16 bytes."""
    return width % (_TILE if width > _TILE else 8) == 0


# Compiled here, so that calls outside any jit compile once per shape.
@functools.partial(jax.jit, static_argnums=0)
def _blocks(mlp, rows, sizes, weights, seed):
    return _differentiable(mlp, rows, sizes, weights, seed)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _differentiable(mlp, rows, sizes, weights, seed):
    return _forward(mlp, rows, sizes, weights, seed, keeps_hidden=False)[0]


def _forward(mlp, rows, sizes, weights, seed, keeps_hidden=True):
    """Returns the output, (N, D), and what the gradient needs of the blocks."""
    padded = _padded(rows)

    def block(at, size, weights, carry):
        output, hidden = carry
        before = linear(
            _rows_at(padded, at, size), weights.hidden_kernel, weights.hidden_bias
        )
        made = mlp.output(
            before, weights.outer_kernel, weights.outer_bias, _draws(seed, at)
        )
        if keeps_hidden:
            hidden = _set_rows(hidden, before, at)
        return _set_rows(output, made, at), hidden

    def expert(carry, each):
        start, size, weights = each
        return _for_blocks(block, start, size, len(rows), weights, carry), None

    hidden = None
    if keeps_hidden:
        hidden = _blank(rows, weights.hidden_kernel.shape[-1])
    carry = (_blank(rows, rows.shape[1]), hidden)
    (output, hidden), _ = jax.lax.scan(expert, carry, (*_starts(sizes), weights))
    output = output[: len(rows)] * _served(rows, sizes)
    return output, (rows, sizes, weights, seed, hidden)


def _backward(mlp, kept, upstream):
    """Gradients of rows and weights: the products of the forward pass, twice."""
    rows, sizes, weights, seed, hidden = kept
    padded = _padded(rows)
    upstream = _padded(upstream * _served(rows, sizes))

    def expert(carry, each):
        start, size, weights = each
        end = start + size

        def block(at, size, weights, carry):
            gradient, sums = carry
            inside = (at + jnp.arange(size))[:, None] < end
            each = jnp.where(inside, _rows_at(upstream, at, size), 0)
            output = functools.partial(mlp.output, draws=_draws(seed, at))
            _, to_hidden = jax.vjp(
                output,
                _rows_at(hidden, at, size),
                weights.outer_kernel,
                weights.outer_bias,
            )
            each, *outer = to_hidden(each)
            _, to_rows = jax.vjp(
                linear,
                _rows_at(padded, at, size),
                weights.hidden_kernel,
                weights.hidden_bias,
            )
            each, *inner = to_rows(each)
            parts = [*inner, *outer]
            sums = [total + part for total, part in zip(sums, parts, strict=True)]
            return _set_rows(gradient, each, at), sums

        # Sums over many blocks would lose digits in bfloat16.
        zeros = [jnp.zeros(weight.shape, "float32") for weight in weights]
        return _for_blocks(block, start, size, len(rows), weights, (carry, zeros))

    gradient, sums = jax.lax.scan(
        expert, _blank(rows, rows.shape[1]), (*_starts(sizes), weights)
    )
    sums = [total.astype(w.dtype) for total, w in zip(sums, weights, strict=True)]
    return gradient[: len(rows)], None, ExpertWeights(*sums), None


_differentiable.defvjp(_forward, _backward)


def _for_blocks(block, start, size, limit, weights, carry):
    """Runs `block` over a run of rows, cut into equal blocks.

    One loop per static size, of which all but one have no turns. Loops update
    their carry in place, where `lax.switch` would copy it in each branch.
    """
    sizes = _sizes(limit)
    turns = [(size + rows - 1) // rows for rows in sizes]
    costs = [t * (rows + BLOCK_COST) for t, rows in zip(turns, sizes, strict=True)]
    best = jnp.argmin(jnp.stack(costs))
    for index, rows in enumerate(sizes):
        carry = jax.lax.fori_loop(
            0,
            jnp.where(best == index, turns[index], 0),
            lambda i, carry, rows=rows: block(start + i * rows, rows, weights, carry),
            carry,
        )
    return carry


def _sizes(count):
    """The sizes that a run of at most `count` rows may be cut into."""
    shorter = [size for size in BLOCK_SIZES if size < count]
    return BLOCK_SIZES[: len(shorter) + 1]


def _starts(sizes):
    return jnp.cumsum(sizes) - sizes, sizes


def _served(rows, sizes):
    """(N, 1), 1 where a row belongs to a run."""
    return (jnp.arange(len(rows)) < jnp.sum(sizes))[:, None].astype(rows.dtype)


def _padded(rows):
    """The rows with room for a block that starts at the last of them."""
    return jnp.pad(rows, ((0, _sizes(len(rows))[-1]), (0, 0)))


def _blank(rows, width):
    return jnp.zeros((len(rows) + _sizes(len(rows))[-1], width), rows.dtype)


def _rows_at(rows, at, size):
    return jax.lax.dynamic_slice(rows, (at, 0), (size, rows.shape[1]))


def _set_rows(rows, part, at):
    return jax.lax.dynamic_update_slice(rows, part.astype(rows.dtype), (at, 0))


def _draws(seed, at):
    """Draws of the block that starts at row `at`; part 0 is the step itself."""
    return RandomDraws(seed).of_part(at + 1)
