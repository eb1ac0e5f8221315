"""Arithmetic on torch, whose functions are called directly: see `numerics.py`."""

import contextlib
import operator

import torch
import torch.nn.functional as F
from keras.src.backend.common.stateless_scope import in_stateless_scope
from keras.src.backend.common.variables import AutocastScope
from keras.src.backend.torch.core import get_device, to_torch_dtype

ACTIVATIONS = {
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "gelu": F.gelu,
    "relu": F.relu,
    "silu": F.silu,
}
concatenated = torch.cat
mean = torch.mean
stacked = torch.stack
tanh = torch.tanh
_VALUE, _PARAMETER = operator.attrgetter("value"), operator.attrgetter("_value")


def cast(x, dtype):
    """Returns a tensor in another dtype, itself if it has that one."""
    return x.to(dtype if isinstance(dtype, torch.dtype) else to_torch_dtype(dtype))


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
    """Returns x @ kernel + bias, for x (..., D) and a kernel of any rank >= 2."""
    if kernel.ndim > 2:
        return torch.matmul(x, kernel) + bias
    if x.ndim == 2:
        # One pass over the result instead of two.
        return torch.addmm(bias, x, kernel)
    rows = torch.addmm(bias, x.reshape(-1, x.shape[-1]), kernel)
    return rows.view(*x.shape[:-1], -1)


def softmax(logits):
    """Softmax of the last axis in float32."""
    return torch.softmax(logits, -1, torch.float32)


def normalized(x, gamma, beta, epsilon):
    """Normalises the last axis in float32; returns the dtype of `x`."""
    if x.dtype == torch.float32:
        return F.layer_norm(x, gamma.shape, gamma, beta, epsilon)
    normal = F.layer_norm(x.float(), gamma.shape, gamma.float(), beta.float(), epsilon)
    return normal.to(x.dtype)


def attended(query, key, value):
    """Returns softmax(query key^T / sqrt(d)) value, (B, T, H, d) of (B, T, H, d)."""
    parts = (each.transpose(1, 2) for each in (query, key, value))
    return F.scaled_dot_product_attention(*parts).transpose(1, 2)


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
    return tensor.unbind()
