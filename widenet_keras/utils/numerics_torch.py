"""Arithmetic on torch, whose functions are called directly: see `numerics.py`."""

import contextlib
import operator

import torch
import torch.nn.functional as F
from keras.src.backend.common.stateless_scope import in_stateless_scope
from keras.src.backend.common.variables import AutocastScope
from keras.src.backend.torch.core import get_device

ACTIVATIONS = {
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "gelu": F.gelu,
    "relu": F.relu,
    "silu": F.silu,
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
}
concatenated = torch.cat
mean = torch.mean
product = torch.matmul
product_of_float32 = torch.matmul
stacked = torch.stack
tanh = torch.tanh
# Keeps nothing for a backward pass.
without_gradients = torch.no_grad
_VALUE, _PARAMETER = operator.attrgetter("value"), operator.attrgetter("_value")


def cast(x, dtype):
    """Returns a tensor in another dtype, itself if it has that one."""
    return x.to(dtype if isinstance(dtype, torch.dtype) else getattr(torch, dtype))


def shape(x):
    """Returns the sizes of a tensor."""
    return tuple(x.shape)


def reshaped(x, shape):
    """Returns a tensor in another shape."""
    return x.reshape(shape)


@contextlib.contextmanager
def weights_as_stored():
    """Context that gives a function from a Keras variable to its tensor.

    As for the other backends. Reading the parameter itself takes a thirtieth of what
    `Variable.value` does, which looks for scopes and symbolic calls every time.
    """
    if in_stateless_scope() or get_device() == "meta":
        with AutocastScope(None):
            yield _VALUE
    else:
        yield _PARAMETER


def linear(x, kernel, bias):
    """Returns x @ kernel + bias in the dtype of x, for a kernel of any rank >= 2."""
    if kernel.dtype != x.dtype:
        kernel, bias = kernel.to(x.dtype), bias.to(x.dtype)
    if kernel.ndim > 2:
        return torch.matmul(x, kernel) + bias
    if x.ndim == 2:
        # One pass over the result instead of two.
        return torch.addmm(bias, x, kernel)
    rows = x.view(-1, x.shape[-1]) if x.is_contiguous() else x.flatten(0, -2)
    return torch.addmm(bias, rows, kernel).view(*x.shape[:-1], bias.shape[0])


def prefix(share, like):
    """See `numerics_traced.prefix`."""
    size = like.shape[-1]
    places = torch.arange(size, device=like.device) + 0.5
    return (places < share * size).to(like.dtype)


def softmax(logits):
    """Softmax of the last axis in float32."""
    return torch.softmax(logits, -1, torch.float32)


def normalized(x, gamma, beta, epsilon):
    """Normalises the last axis in float32; returns the dtype of `x`."""
    if x.dtype == gamma.dtype == torch.float32:
        return F.layer_norm(x, gamma.shape, gamma, beta, epsilon)
    normal = F.layer_norm(x.float(), gamma.shape, gamma.float(), beta.float(), epsilon)
    return normal.to(x.dtype)


def split(x, count):
    """Returns as many equal parts of the last axis."""
    return x.chunk(count, -1)


def split_heads(x, heads):
    """(B, T, H * d) -> heads as `attended` takes them, here (B, H, T, d)."""
    return x.view(*x.shape[:2], heads, x.shape[2] // heads).transpose(1, 2)


def split_joined(x, heads):
    """(B, T, 3 * H * d) -> queries, keys and values as `attended` takes them."""
    size = x.shape[2] // (3 * heads)
    return x.view(*x.shape[:2], 3, heads, size).permute(2, 0, 3, 1, 4).unbind()


def heads_first(x):
    """Returns heads as (B, H, T, d)."""
    return x


def tokens_first(x):
    """Returns heads as (B, T, H, d)."""
    return x.transpose(1, 2)


# Whether `attended` takes keys and values of different sizes.
TAKES_UNEQUAL = True


def attended(query, key, value):
    """Returns softmax(query key^T / sqrt(k)) value of heads, (B, T, H * v)."""
    inner, outer = query.shape[-1], value.shape[-1]
    if inner != outer:
        # Fused kernels want one size; zeros add nothing to logits.
        query, key, value = (
            F.pad(each, (0, max(inner, outer) - each.shape[-1]))
            for each in (query, key, value)
        )
    mixed = F.scaled_dot_product_attention(query, key, value, scale=inner**-0.5)
    return mixed[..., :outer].transpose(1, 2).flatten(2)


def for_each_image(rows, tokens):
    """Returns rows (P, F), or (B or 1, P, F), as (B, P, F) for tokens (B, T, D)."""
    return rows.expand(tokens.shape[0], *rows.shape[-2:])


def reordered(tokens, order):
    """Returns tokens (B, T, D) in another order, (T,) places that differ."""
    return tokens.index_select(1, order)


def patches(images, kernel, bias):
    """Returns projected patches (B, rows, columns, D) of (B, height, width, c)."""
    found = F.conv2d(
        images.permute(0, 3, 1, 2),
        kernel.permute(3, 2, 0, 1),
        bias,
        stride=kernel.shape[0],
    )
    return found.permute(0, 2, 3, 1)


def rows_of(tensor, count):
    """Returns what stands in each place of the first axis, a sequence of `count`."""
    return tensor.unbind() if isinstance(tensor, torch.Tensor) else tensor


def taken(vector, places):
    """Returns the entries of a vector at places, (T,)."""
    # Keras' own makes each place of 8 bytes first.
    return vector.index_select(0, places)


def recomputed(function, static=()):
    """Returns the function: what its gradient keeps is left to the framework."""
    return function
