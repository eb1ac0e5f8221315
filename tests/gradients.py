"""Gradients of a scalar function of variables, on the running backend."""

import keras
import numpy as np

BACKEND = keras.backend.backend()


def compiled(function):
    """Returns `function()`, on JAX compiled whole: eager JAX compiles every op."""
    if BACKEND == "jax":
        import jax

        return jax.jit(function)()
    return function()


def value_and_gradients(function, variables):
    """Returns the value of `function()` and its gradients, as NumPy.

    Args:
        function: Takes nothing, reads `variables`, returns a scalar.
        variables: List of `keras.Variable`.
    """
    if BACKEND == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            value = function()
        gradients = tape.gradient(value, variables)
    elif BACKEND == "jax":
        import jax

        def stateless(values):
            mapping = list(zip(variables, values, strict=True))
            with keras.StatelessScope(state_mapping=mapping):
                return function()

        compute = jax.jit(jax.value_and_grad(stateless))
        value, gradients = compute([v.value for v in variables])
    else:
        for variable in variables:
            variable.value.grad = None
        value = function()
        value.backward()
        gradients = [variable.value.grad for variable in variables]
    as_numpy = keras.ops.convert_to_numpy
    zeros = [np.zeros(tuple(v.shape), "float32") for v in variables]
    gradients = [
        zero if gradient is None else as_numpy(gradient)
        for gradient, zero in zip(gradients, zeros, strict=True)
    ]
    if BACKEND == "torch":
        value = value.detach()
    return float(as_numpy(value)), gradients
