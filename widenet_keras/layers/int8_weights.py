"""A float weight of a layer stored anew: whole numbers, and what they stand for."""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

import keras
from keras import ops

from widenet_keras.utils.roles import role_of, weight_with_role
from widenet_keras.utils.rounding import in_int8

_by_the_model = ContextVar("_by_the_model", default=False)


@contextlib.contextmanager
def quantized_by_the_model() -> Iterator[None]:
    """Context in which a model of ours, which remembers it, quantises its layers."""
    token = _by_the_model.set(True)
    try:
        yield
    finally:
        _by_the_model.reset(token)


def check_quantized_by_the_model(layer: keras.layers.Layer) -> None:
    """Raises `NotImplementedError` if Keras quantises a layer for a model around ours.

    Keras warns then and leaves the layer as it is. Nothing but the mode of our own
    model says in a file that its layers are int8, so that such a file would not open.

    Args:
        layer: The layer that holds the weights.
    """
    if not _by_the_model.get():
        raise NotImplementedError(
            f"{layer.path} stays as it is; only `quantize` of a WideNet that it is in "
            "stores it in integers, before or after this."
        )


def stored_in_int8(
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
    rounded, scale = in_int8(ops.convert_to_numpy(variable), axis)
    layer._untrack_variable(variable)
    parts = []
    for name, stored, dtype in (
        (variable.name, rounded, "int8"),
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
        part.assign(stored)
        parts.append(part)
    return tuple(parts)
