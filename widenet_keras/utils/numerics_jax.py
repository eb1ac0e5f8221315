"""What JAX computes in a way of its own: see `numerics.py`."""

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.extend.random import threefry2x32_p

from widenet_keras.utils import attention_jax, random_bits

_DRAWN = "drawn"
_KEEPS_DRAWN = jax.checkpoint_policies.save_only_these_names(_DRAWN)


def attended(query, key, value):
    """Returns softmax(query key^T / sqrt(d)) value of heads, (B, T, H * d)."""
    mixed = attention_jax.attended(query, key, value)
    return mixed.reshape(*mixed.shape[:2], -1)


def product_of_float32(x, kernel):
    """Returns x @ kernel of float32, which accelerators round to half of it or less."""
    return jnp.matmul(x, kernel, precision=jax.lax.Precision.HIGHEST)


def recomputed(function):
    """Returns the function, whose gradient computes again what lies inside.

    JAX keeps every value that a derivative reads, and a loop over the depth writes
    each of them to memory: six arrays as large as the hidden layer for one GELU.
    Masks of dropout are kept, since hashing costs more than a byte.
    """
    # Forward and backward pass of a loop are two programs, which the compiler cannot
    # merge; where it can, that is its choice to make.
    return jax.checkpoint(function, policy=_KEEPS_DRAWN, prevent_cse=False)


def dropped(x, seed, rate):
    """Returns `x` with entries dropped at a rate and the others scaled up.

    Entries share random words, see `random_bits`.

    Args:
        x: Any shape.
        seed: (2,) seed.
        rate: From 0.0 to below 1.0.
    """
    bits = random_bits.bits_for(rate)
    limit, scale = random_bits.limit_and_scale(rate, bits)
    parts = jax.lax.bitcast_convert_type(
        _words(seed, -(-x.size * bits // 64)), f"uint{bits}"
    )
    parts = parts.reshape(-1)[: x.size].reshape(x.shape)
    keep = checkpoint_name(parts >= jnp.array(limit, parts.dtype), _DRAWN)
    # Not `where`: JAX carries its zeros, as large as `x`, into every loop.
    return x * (keep.astype(x.dtype) * scale)


def _words(seed, pairs):
    """Returns random words, (pairs, 2) uint32: both of every hash.

    `jax.random.bits` makes one word of both, and so hashes twice as often.
    """
    place = jnp.arange(pairs, dtype="uint32")
    key = (jnp.broadcast_to(part, place.shape) for part in seed.astype("uint32"))
    return jnp.stack(threefry2x32_p.bind(*key, jnp.zeros_like(place), place), -1)
