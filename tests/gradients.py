"""Gradients of a scalar function of variables, on the running backend."""

import keras
import numpy as np

BACKEND = keras.backend.backend()


def value_and_gradients(function, variables, traced=True):
    """Returns the value of `function()`, its gradients and what else it returns.

    Args:
        function: Takes nothing, reads `variables`, returns a scalar, or a
            scalar and any structure of tensors.
        variables: List of `keras.Variable`.
        traced: Whether TensorFlow traces a graph, as it does in training. JAX
            always compiles, torch never.

    Returns:
        Value (float) and list of gradients (NumPy); with a structure, that as
        the third.
    """

    def pair():
        result = function()
        return result if isinstance(result, tuple) else (result, None)

    if BACKEND == "tensorflow":
        import tensorflow as tf

        def compute():
            with tf.GradientTape() as tape:
                value, more = pair()
            # The gradient of a Keras variable that is not read is None.
            return value, tape.gradient(value, [v.value for v in variables]), more

        value, gradients, more = (tf.function(compute) if traced else compute)()
    elif BACKEND == "jax":
        import jax

        def stateless(values):
            mapping = list(zip(variables, values, strict=True))
            with keras.StatelessScope(state_mapping=mapping):
                return pair()

        compute = jax.jit(jax.value_and_grad(stateless, has_aux=True))
        (value, more), gradients = compute([v.value for v in variables])
    else:
        for variable in variables:
            variable.value.grad = None
        value, more = pair()
        value.backward()
        gradients = [variable.value.grad for variable in variables]
        value = value.detach()
    as_numpy = keras.ops.convert_to_numpy
    zeros = [np.zeros(tuple(v.shape), "float32") for v in variables]
    gradients = [
        zero if gradient is None else as_numpy(gradient)
        for gradient, zero in zip(gradients, zeros, strict=True)
    ]
    if more is None:
        return float(as_numpy(value)), gradients
    return float(as_numpy(value)), gradients, more
