"""Batches with `tf.data`; every file here needs TensorFlow."""
