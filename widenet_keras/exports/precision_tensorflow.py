"""Products in full float32 on TensorFlow."""

import contextlib

import tensorflow as tf


@contextlib.contextmanager
def exact_products():
    """Context in which devices multiply float32 as float32."""
    config = tf.config.experimental
    before = config.tensor_float_32_execution_enabled()
    config.enable_tensor_float_32_execution(False)
    try:
        yield
    finally:
        config.enable_tensor_float_32_execution(before)
