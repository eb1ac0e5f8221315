"""Gradients of a scalar function of variables, on the running backend."""

import keras
import numpy as np

BACKEND = keras.backend.backend()


def value_and_gradients(function, variables):
    """Returns the value of `function()`, its gradients and what else it returns.

    On JAX and TensorFlow the function is compiled, as it is in training.

    Args:
        function: Takes nothing, reads `variables`, returns a scalar, or a
            scalar and any structure of tensors.
        variables: List of `keras.Variable`.

    Returns:
        Value (float) and list of gradients (NumPy); with a structure, that as
        the third.
    """

    def pair():
        result = function()
        return result if isinstance(result, tuple) else (result, None)

    if BACKEND == "tensorflow":
        import tensorflow as tf

        @tf.function
        def compute():
            with tf.GradientTape() as tape:
                value, more = pair()
            # The gradient of a Keras variable that is not read is None.
            return value, tape.gradient(value, [v.value for v in variables]), more

        value, gradients, more = compute()
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
