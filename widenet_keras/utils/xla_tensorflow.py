"""Whether TensorFlow traces a graph for XLA."""

import tensorflow as tf
from tensorflow.python.ops import control_flow_util


def is_traced_for_xla():
    """Whether the calls here, or what calls them, are in `jit_compile=True`."""
    graph = tf.compat.v1.get_default_graph()
    return not tf.executing_eagerly() and bool(
        control_flow_util.GraphOrParentsInXlaContext(graph)
    )
