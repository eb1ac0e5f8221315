"""TensorFlow where data need it, and one line where it is missing."""

import importlib
import importlib.util


def has_tensorflow():
    """Whether TensorFlow is installed."""
    return importlib.util.find_spec("tensorflow") is not None


def require_tensorflow(subject):
    """Returns the module `tensorflow`.

    Args:
        subject: What needs it, with its verb, for instance "Class folders are".

    Raises:
        ImportError: If TensorFlow is not installed; one line says what to install.
    """
    if not has_tensorflow():
        raise ImportError(
            f"{subject} read with TensorFlow, which is not installed; run "
            "pip install 'widenet_keras[tensorflow]'."
        )
    return importlib.import_module("tensorflow")
