"""Running a command on the Keras backend that it asks for."""

import os
import sys


def run_on(backend, arguments):
    """Starts the command anew if Keras runs on another backend than asked for.

    Keras reads `KERAS_BACKEND` when it is imported, and importing this package
    imports Keras. The new process takes the place of this one.

    Args:
        backend: "tensorflow", "jax", "torch", or None for the one that runs.
        arguments: The words after `widenet`.
    """
    import keras

    if backend is None or backend == keras.backend.backend():
        return
    os.environ["KERAS_BACKEND"] = backend
    # What TensorFlow says about itself would stand above the results.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.execv(sys.executable, [sys.executable, "-m", "widenet_keras.cli", *arguments])
