"""What JAX computes in a way of its own: see `numerics.py`."""

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from widenet_keras.utils import attention_jax

_DRAWN = "drawn"
_KEEPS_DRAWN = jax.checkpoint_policies.save_only_these_names(_DRAWN)
# How far the rate of a mask may be from the one that was asked for.
_RATE_TOLERANCE = 0.02


def attended(query, key, value):
    """Returns softmax(query key^T / sqrt(d)) value of heads, (B, T, H * d)."""
    mixed = attention_jax.attended(query, key, value)
    return mixed.reshape(*mixed.shape[:2], -1)


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

    JAX hashes 64 bits for an entry of any width, so that two or four entries share a
    random word: the rate is a multiple of 2^-16 or 2^-8, see `bits_for`, and the scale
    is that of this rate.

    Args:
        x: Any shape.
        seed: (2,) seed.
        rate: From 0.0 to below 1.0.
    """
    bits = bits_for(rate)
    limit, entries = round(rate * 2**bits), 32 // bits
    words = jax.random.bits(seed, (-(-x.size // entries),), "uint32")
    parts = jax.lax.bitcast_convert_type(words, f"uint{bits}")
    parts = parts.reshape(-1)[: x.size].reshape(x.shape)
    keep = checkpoint_name(parts >= jnp.array(limit, parts.dtype), _DRAWN)
    # Not `where`: JAX carries its zeros, as large as `x`, into every loop.
    return x * (keep.astype(x.dtype) * (1.0 / (1.0 - limit / 2**bits)))


def bits_for(rate):
    """Returns how many random bits an entry needs, so that its rate comes within 2 %.

    Args:
        rate: Rate of dropped entries; that of the entries kept counts as well.
    """
    allowed = _RATE_TOLERANCE * min(rate, 1.0 - rate)
    near = (b for b in (8, 16) if abs(round(rate * 2**b) / 2**b - rate) <= allowed)
    return next(near, 32)
