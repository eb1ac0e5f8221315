"""How a forward pass is carried out, where the caller knows more than the layer.

Thread-local, since the replicas of a `tf.distribute` strategy run in threads.
"""

import contextlib
import threading

import keras

from widenet_keras.utils.install import is_installed

if keras.backend.backend() == "tensorflow":
    from widenet_keras.utils.xla_tensorflow import is_traced_for_xla
else:

    def is_traced_for_xla():
        """Whether TensorFlow compiles: not where another backend runs."""
        return False


class _Execution(threading.local):
    engine = None
    static_shapes = False
    unrolled = False
    compiled = False
    replica = None


_current = _Execution()


@contextlib.contextmanager
def execution(
    *, engine=None, static_shapes=None, unrolled=None, compiled=None, replica=None
):
    """Sets how the calls inside are carried out, where layers say "auto".

    Args:
        engine: Name of the dispatch engine, or None to leave it.
        static_shapes: Whether a compiler asks for static shapes, as XLA does.
        unrolled: Whether the steps of an encoder must not become a loop.
        compiled: Whether steps of an encoder are compiled, which torch can.
        replica: Which of several devices with images of their own computes the call,
            an integer, a tensor or not; what is drawn differs between them.
    """
    wanted = {
        "engine": engine,
        "static_shapes": static_shapes,
        "unrolled": unrolled,
        "compiled": compiled,
        "replica": replica,
    }
    before = {name: getattr(_current, name) for name in wanted}
    for name, value in wanted.items():
        if value is not None:
            setattr(_current, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(_current, name, value)


def auto_engine():
    """Returns the engine that "auto" means here, or None if nobody said."""
    return _current.engine


def shapes_are_static():
    """Whether the calls here are compiled for static shapes."""
    return _current.static_shapes or is_traced_for_xla()


def must_unroll():
    """Whether the steps of an encoder must not become a loop here."""
    return _current.unrolled


def steps_are_compiled():
    """Whether the steps of an encoder are compiled here, on torch."""
    return _current.compiled


def replica_of_call():
    """Returns which of several devices computes the calls here, or None."""
    return _current.replica


def has_kernels():
    """Whether `tokamax` is installed, of the extra "kernels" for JAX."""
    return is_installed("tokamax")
