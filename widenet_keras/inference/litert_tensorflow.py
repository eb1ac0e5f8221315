"""What TensorFlow has of LiteRT: an interpreter, and what reads the files."""

import tensorflow as tf
from tensorflow.lite.python import schema_py_generated as schema

__all__ = ["Interpreter", "schema"]

Interpreter = tf.lite.Interpreter
