"""What JAX computes in a way of its own: see `numerics.py`."""

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from widenet_keras.utils import attention_jax, random_bits

# By how many bits the rounds of threefry2x32 rotate.
_ROTATIONS = (13, 15, 26, 6), (17, 29, 16, 24)
_DRAWN = "drawn"
_KEEPS_DRAWN = jax.checkpoint_policies.save_only_these_names(_DRAWN)


def attended(query, key, value):
    """Returns softmax(query key^T / sqrt(d)) value of heads, (B, T, H * d)."""
    mixed = attention_jax.attended(query, key, value)
    return mixed.reshape(*mixed.shape[:2], -1)


def reordered(tokens, order):
    """Returns tokens (B, T, D) in another order, (T,) places that differ."""
    # Or JAX looks for places that are none, and adds up where two could be one.
    how = {"mode": "promise_in_bounds", "unique_indices": True}
    return tokens.at[:, order].get(**how)


def product_of_float32(x, kernel):
    """Returns x @ kernel of float32, which accelerators round to half of it or less."""
    return jnp.matmul(x, kernel, precision=jax.lax.Precision.HIGHEST)


def recomputed(function, static=()):
    """Returns the function, whose gradient computes again what lies inside.

    JAX keeps every value that a derivative reads, and a loop over the depth writes
    each of them to memory: six arrays as large as the hidden layer for one GELU.
    Masks of dropout are kept, since hashing costs more than a byte.

    Args:
        function: Of arrays.
        static: Places of the arguments that are none.
    """
    # Forward and backward pass of a loop are two programs, which the compiler cannot
    # merge; where it can, that is its choice to make.
    return jax.checkpoint(
        function, policy=_KEEPS_DRAWN, prevent_cse=False, static_argnums=static
    )


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
    return jnp.stack(threefry(seed, (jnp.zeros_like(place), place)), -1)


def threefry(seed, counters, rounds=13):
    """Returns two hashes of two counters by threefry2x32, uint32 of their shape.

    JAX' own 20 rounds are a margin over the 13 that are known without a flaw, for who
    hashes more than masks; hashing is a third of what dropout costs a GPU. Source:
    Random123, of "Parallel Random Numbers: As Easy as 1, 2, 3".

    Args:
        seed: (2,) seed.
        counters: Two arrays uint32.
        rounds: How often the counters are mixed.
    """
    first, second = seed.astype("uint32")
    keys = first, second, first ^ second ^ jnp.uint32(0x1BD11BDA)
    one, other = (counter + key for counter, key in zip(counters, keys, strict=False))
    for turn in range(rounds):
        bits = _ROTATIONS[turn // 4 % 2][turn % 4]
        one += other
        other = one ^ (other << bits | other >> 32 - bits)
        if turn % 4 == 3:
            times = turn // 4 + 1
            one += keys[times % 3]
            other += keys[(times + 1) % 3] + jnp.uint32(times)
    return one, other
