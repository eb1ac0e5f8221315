"""A float weight of a layer stored anew: whole numbers, and what they stand for."""

import keras
import numpy as np
from keras import ops

from widenet_keras.utils.roles import role_of, weight_with_role


def in_int8(
    layer: keras.layers.Layer, variable: keras.Variable, axis: int, scale_name: str
) -> tuple[keras.Variable, keras.Variable]:
    """Returns an int8 weight in the place of a float one, and its float32 scale.

    Both have the role of the weight, which the layer no longer has.

    Args:
        layer: The layer that holds it.
        variable: The float weight.
        axis: Along which numbers share a scale.
        scale_name: Name of the scale.
    """
    value = ops.convert_to_numpy(variable).astype("float32")
    largest = np.abs(value).max(axis=axis, keepdims=True)
    scale = np.maximum(largest, 1e-12) / 127
    layer._untrack_variable(variable)
    parts = []
    for name, stored, dtype in (
        (variable.name, np.rint(value / scale), "int8"),
        (scale_name, scale, "float32"),
    ):
        part = weight_with_role(
            layer,
            role_of(variable),
            name=name,
            shape=stored.shape,
            initializer="zeros",
            dtype=dtype,
            trainable=False,
        )
        part.assign(stored.astype(dtype))
        parts.append(part)
    return tuple(parts)
