"""The network as a TensorFlow graph whose weights are stored once, and how."""

import collections

import keras
import numpy as np
import tensorflow as tf

from widenet_keras.exports.int8 import SMALLEST
from widenet_keras.models import preprocessing
from widenet_keras.utils.execution import execution
from widenet_keras.utils.roles import role_of
from widenet_keras.utils.rounding import in_float16, in_int8


class StoredWeight(tf.Module):
    """One weight as an export stores it; calling it returns float32.

    Args:
        weight: A Keras variable.
        quantize: "none", "float16" or "dynamic_int8".
    """

    def __init__(self, weight, quantize):
        super().__init__()
        value = keras.ops.convert_to_numpy(weight)
        self.scale = None
        if quantize == "float16" and value.dtype == np.float32:
            value = in_float16(value)
        elif quantize == "dynamic_int8" and _is_large(weight):
            # One scale for each output channel, and for each expert.
            value, scale = in_int8(value, axis=-2)
            self.scale = tf.Variable(scale, trainable=False)
        self.dtype = weight.dtype
        self.stored = tf.Variable(value, trainable=False)

    def __call__(self):
        """Returns the weight in the dtype of the model."""
        value = tf.cast(self.stored, self.dtype)
        return value if self.scale is None else value * self.scale


class Network(tf.Module):
    """A model's forward pass from its stored weights.

    Args:
        model: A `WideNet` on the TensorFlow backend, in float32.
        quantize: "none", "float16" or "dynamic_int8": what weights are stored in.
        engine: Dispatch engine, or None for the fastest in TensorFlow.
        unrolled: Whether the steps stand one by one instead of in a loop.
    """

    def __init__(self, model, quantize="none", engine=None, unrolled=False):
        super().__init__()
        used = model.weights
        self.weights = [StoredWeight(weight, quantize) for weight in used]

        def forward(images):
            values = [weight() for weight in self.weights]
            mapping = list(zip(used, values, strict=True))
            scope = keras.StatelessScope(state_mapping=mapping)
            with execution(engine=engine, unrolled=unrolled), scope:
                return model(images, training=False)

        self.forward = forward


def scaled(pixels):
    """Returns uint8 pixels as the floats that models take, in [-1, 1]."""
    return preprocessing.scaled(tf.cast(pixels, tf.float32))


def counted(names):
    """Returns a dict of names to how often each appears, sorted."""
    return dict(sorted(collections.Counter(names).items()))


def _is_large(weight):
    return (
        len(weight.shape) >= 2
        and np.prod(weight.shape) >= SMALLEST
        and weight.dtype == "float32"
        and not role_of(weight).exact
    )
