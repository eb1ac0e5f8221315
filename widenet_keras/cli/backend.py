"""Running a command on the Keras backend that it asks for."""

import os
import sys

from widenet_keras.utils.keras_backend import check_installed, choose_backend
from widenet_keras.utils.quiet import quiet


def run_on(backend, arguments):
    """Imports the package on the backend asked for; call it before a command runs.

    Where Keras is imported already and runs on another one, the command starts anew:
    the new process takes the place of this one.

    Args:
        backend: "tensorflow", "jax", "torch", or None for any.
        arguments: The words after `widenet`.

    Raises:
        ImportError: If the backend is not installed; one line says what to install.
    """
    # What TensorFlow says about itself would stand above the results.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    package = sys.modules["widenet_keras"]
    if not hasattr(package, "__version__"):
        choose_backend(backend)
        # `widenet_command` left this out until the words were read.
        with quiet():
            package.__spec__.loader.exec_module(package)
    import keras

    if backend in (None, keras.backend.backend()):
        return
    check_installed(backend)
    os.environ["KERAS_BACKEND"] = backend
    os.execv(sys.executable, [sys.executable, "-m", "widenet_keras.cli", *arguments])
