"""Arithmetic where a graph is traced and compiled: TensorFlow and JAX."""

import contextlib

import keras
import numpy as np
from keras import ops
from keras.src.backend.common.variables import AutocastScope

# The tanh form is what the authors' network and the ViT lineage compute.
ACTIVATIONS = {
    "gelu_tanh": lambda x: ops.gelu(x, approximate=True),
    "gelu": lambda x: ops.gelu(x, approximate=False),
    "relu": ops.relu,
    "silu": ops.silu,
    "quick_gelu": lambda x: x * ops.sigmoid(1.702 * x),
}
cast = ops.cast
concatenated = ops.concatenate
mean = ops.mean
product = ops.matmul
product_of_float32 = ops.matmul
reshaped = ops.reshape
shape = ops.shape
stacked = ops.stack
taken = ops.take
tanh = ops.tanh
# What no gradient needs, a compiler does not keep.
without_gradients = contextlib.nullcontext


@contextlib.contextmanager
def weights_as_stored():
    """Context that gives a function from a Keras variable to its tensor.

    In the dtype that it is stored in: rounded for a whole pass, the gradients of a
    weight that many steps read would be added up in half precision.
    """
    with AutocastScope(None):
        yield ops.convert_to_tensor


def linear(x, kernel, bias):
    """Returns x @ kernel + bias in the dtype of x, for a kernel of any rank >= 2."""
    return ops.matmul(x, ops.cast(kernel, x.dtype)) + ops.cast(bias, x.dtype)


def prefix(share, like):
    """Returns (F,), 1 for the first part of F entries and 0 for the rest.

    Args:
        share: Which part, a scalar tensor; times F a whole number but for rounding.
        like: (..., F), whose dtype it has.
    """
    size = like.shape[-1]
    places = ops.arange(size, dtype="float32") + 0.5
    return ops.cast(places < share * size, like.dtype)


def softmax(logits):
    """Softmax of the last axis in float32, also where that axis has one entry.

    Keras warns of a softmax over one entry as a likely mistake; here it is the
    router of a single expert, or the attention of a single token.
    """
    logits = ops.cast(logits, "float32")
    if logits.shape[-1] == 1:
        # Written so that the gradient is zero rather than missing.
        return logits * 0.0 + 1.0
    return ops.softmax(logits, axis=-1)


def normalized(x, gamma, beta, epsilon):
    """Normalises the last axis in float32; returns the dtype of `x`."""
    normal = ops.layer_normalization(
        ops.cast(x, "float32"),
        ops.cast(gamma, "float32"),
        ops.cast(beta, "float32"),
        epsilon=epsilon,
    )
    return ops.cast(normal, x.dtype)


def split(x, count):
    """Returns as many equal parts of the last axis."""
    return ops.split(x, count, axis=-1)


def split_heads(x, heads):
    """(B, T, H * d) -> heads as `attended` takes them, here (B, T, H, d)."""
    return ops.reshape(x, (-1, x.shape[1], heads, x.shape[2] // heads))


def split_joined(x, heads):
    """(B, T, 3 * H * d) -> queries, keys and values as `attended` takes them."""
    return tuple(split_heads(part, heads) for part in split(x, 3))


def heads_first(x):
    """Returns heads as (B, H, T, d)."""
    return ops.transpose(x, (0, 2, 1, 3))


def tokens_first(x):
    """Returns heads as (B, T, H, d)."""
    return x


# Whether `attended` takes keys and values of different sizes.
TAKES_UNEQUAL = False


def attended(query, key, value):
    """Returns softmax(query key^T / sqrt(d)) value of heads, (B, T, H * d)."""
    mixed = ops.dot_product_attention(query, key, value)
    return ops.reshape(mixed, (-1, mixed.shape[1], mixed.shape[2] * mixed.shape[3]))


def for_each_image(rows, tokens):
    """Returns rows (P, F), or (B or 1, P, F), as (B, P, F) for tokens (B, T, D)."""
    # Added to nothing of each image, which leaves the number of them open in exports.
    return rows + tokens[:, :1, :1] * 0


def reordered(tokens, order):
    """Returns tokens (B, T, D) in another order, (T,) places that differ."""
    return ops.take(tokens, order, axis=1)


def patches(images, kernel, bias):
    """Returns projected patches (B, rows, columns, D) of (B, height, width, c).

    Args:
        images: Images of whole patches.
        kernel: (p, p, c, D).
        bias: (D,).
    """
    found = ops.conv(
        images,
        kernel,
        strides=kernel.shape[0],
        padding="valid",
        data_format="channels_last",
    )
    if found.shape[0] == 0:
        # That of no images has their shape on TensorFlow.
        sides = (side // kernel.shape[0] for side in images.shape[1:3])
        found = ops.reshape(found, (0, *sides, kernel.shape[-1]))
    return found + ops.reshape(bias, (1, 1, 1, -1))


def rows_of(tensor, count):
    """Returns what stands in each place of the first axis, a sequence of `count`."""
    return ops.unstack(tensor, count)


def recomputed(function, static=()):
    """Returns the function: what its gradient keeps is left to the framework."""
    return function


def first_seed(generator):
    """Returns the next seed of a `keras.random.SeedGenerator`, (2,)."""
    return generator.next()


def moved_seed(seed, number, by):
    """Returns another seed for each number.

    Args:
        seed: (2,).
        number: An integer or an integer tensor.
        by: How far a number is from the next, an integer.
    """
    if isinstance(number, int):
        return seeds_at(seed, [number * by & 0x7FFFFFFF])[0]
    return seed + ops.cast(ops.stack([number, number * 0]), seed.dtype) * by


def seeds_at(seed, offsets):
    """Returns a seed for each of a list of integers, (L, 2)."""
    offsets = np.array([[offset, 0] for offset in offsets], "int64")
    return seed + ops.convert_to_tensor(offsets, dtype=seed.dtype)


def uniform(shape, seed):
    """Returns float32 numbers from 0 to 1."""
    return keras.random.uniform(shape, dtype="float32", seed=_FixedSeed(seed))


def normal(shape, seed, stddev):
    """Returns float32 numbers of a standard deviation around 0."""
    fixed = _FixedSeed(seed)
    return keras.random.normal(shape, stddev=stddev, dtype="float32", seed=fixed)


def dropped(x, seed, rate):
    """Returns `x` with entries dropped at a rate and the others scaled up."""
    keep = ops.cast(uniform(ops.shape(x), seed) >= rate, x.dtype)
    return x * (keep * (1.0 / (1.0 - rate)))


class _FixedSeed(keras.random.SeedGenerator):
    """A seed in the place of a generator: `keras.random` takes no bare tensors."""

    def __init__(self, seed):
        self.seed = seed

    def next(self, ordered=True):
        return self.seed
