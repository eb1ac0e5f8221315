"""Weights in fewer bits than they are computed with: the arithmetic, on NumPy arrays.

Every file of ours that stores its weights so takes it from here. Keras rounds the
kernels of its own layers, and the converters of LiteRT and ONNX what they calibrate.
"""

import numpy as np

# Whole numbers run from -127 to 127, so that negating a kernel negates them.
_LARGEST = 127
# What is all zero has a scale all the same.
_SMALLEST_RANGE = 1e-12


def in_int8(value: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns an array as int8 numbers, and the float32 scale they are multiplied by.

    The largest size along the axis becomes 127, what lies between two numbers the
    nearer one, and the even one in the middle.

    Args:
        value: Array of floats.
        axis: Along which numbers share a scale: of a kernel that of its inputs, so
            that each output has its own. The scale has size 1 there.
    """
    value = np.asarray(value, "float32")
    largest = np.abs(value).max(axis=axis, keepdims=True)
    scale = np.maximum(largest, np.float32(_SMALLEST_RANGE)) / np.float32(_LARGEST)
    return np.rint(value / scale).astype("int8"), scale


def in_float16(value: np.ndarray) -> np.ndarray:
    """Returns an array as float16; finite numbers stay so, as the largest there are.

    Args:
        value: Array of floats.
    """
    most = np.finfo("float16").max
    value = np.asarray(value)
    return np.where(np.isfinite(value), np.clip(value, -most, most), value).astype(
        "float16"
    )
