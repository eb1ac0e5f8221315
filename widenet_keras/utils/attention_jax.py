"""Attention of heads on JAX: which kernel computes it where.

Keras asks cuDNN whether it takes a call as if for inference, and learns of a refusal
only when a loop over the depth is differentiated; on TPUs it takes a kernel of its own.
So the kernel is asked for by name.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import keras


class Place(NamedTuple):
    """Where a call runs.

    Attributes:
        platform: "cpu", "gpu" or "tpu".
        capability: Compute capability of an NVIDIA GPU such as (9, 0); else None.
    """

    platform: str
    capability: tuple[int, int] | None = None


def place():
    """Returns the `Place` of this process's devices."""
    device = jax.local_devices()[0]
    # "9.0" on NVIDIA GPUs, "gfx942" on those of AMD.
    major, _, minor = str(getattr(device, "compute_capability", "")).partition(".")
    if device.platform != "gpu" or not (major.isdigit() and minor.isdigit()):
        return Place(device.platform)
    return Place("gpu", (int(major), int(minor)))


def kernel_for(place, dtype, length, head_dim):
    """Returns what computes attention without bias and dropout: "cudnn" or "xla".

    cuDNN's kernel never writes the probabilities to memory. It takes half precision
    and heads whose size is a multiple of 8, up to 128, or 256 from Hopper on. The one
    token of a sequence of one has nothing to attend to.

    Args:
        place: `Place`.
        dtype: Dtype of queries, keys and values.
        length: T.
        head_dim: Size of a head.
    """
    if place.capability is None or place.capability < (8, 0) or length < 2:
        return "xla"
    if jnp.dtype(dtype) not in (jnp.bfloat16, jnp.float16):
        return "xla"
    most = 256 if place.capability >= (9, 0) else 128
    return "cudnn" if head_dim % 8 == 0 and head_dim <= most else "xla"


def attended(query, key, value):
    """Returns softmax(query key^T / sqrt(d)) value of heads (B, T, H, d)."""
    kernel = "xla"
    if keras.config.is_flash_attention_enabled() is not False:
        kernel = kernel_for(place(), query.dtype, query.shape[1], query.shape[3])
    if kernel == "cudnn":
        return of_even_length(query, key, value, kernel)
    return jax.nn.dot_product_attention(query, key, value, implementation=kernel)


def of_even_length(query, key, value, kernel):
    """Returns the same as `attended`, of heads padded to an even number of tokens.

    cuDNN's gradient refuses odd lengths, which every model with a class token has.

    Args:
        query: (B, T, H, d).
        key: (B, T', H, d), T' keys, more than queries where a step has prompts.
        value: (B, T', H, d).
        kernel: "cudnn" or "xla".
    """
    batch, queries = query.shape[:2]
    keys = key.shape[1]
    if queries % 2 == 0 and keys % 2 == 0:
        return jax.nn.dot_product_attention(query, key, value, implementation=kernel)
    query, key, value = (
        jnp.pad(heads, ((0, 0), (0, heads.shape[1] % 2), (0, 0), (0, 0)))
        for heads in (query, key, value)
    )
    made = jax.nn.dot_product_attention(
        query,
        key,
        value,
        query_seq_lengths=jnp.full((batch,), queries, "int32"),
        key_value_seq_lengths=jnp.full((batch,), keys, "int32"),
        implementation=kernel,
    )
    return made[:, :queries]
