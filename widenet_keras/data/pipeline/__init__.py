"""Batches with `tf.data`; every file here needs TensorFlow."""

import tensorflow as tf

from widenet_keras.data.requirements import leave_accelerators

leave_accelerators(tf)
