"""TensorFlow where data need it, and one line where it is missing."""

import contextlib
import importlib
from types import ModuleType

import keras

from widenet_keras.utils.install import install_command, is_installed


def has_tensorflow() -> bool:
    """Whether TensorFlow is installed."""
    return is_installed("tensorflow")


def require_tensorflow(subject: str) -> ModuleType:
    """Returns the module `tensorflow`.

    Args:
        subject: What needs it, with its verb, for instance "Class folders are".

    Raises:
        ImportError: If TensorFlow is not installed; one line says what to install.
    """
    if not has_tensorflow():
        raise ImportError(
            f"{subject} read with TensorFlow, which is not installed; run "
            f"{install_command('tensorflow')}."
        )
    tf = importlib.import_module("tensorflow")
    leave_accelerators(tf)
    return tf


def leave_accelerators(tf):
    """Keeps TensorFlow off GPUs and TPUs if another backend trains on them.

    With its first tensor TensorFlow takes nearly all of a GPU's memory.

    Args:
        tf: The module `tensorflow`.
    """
    if keras.backend.backend() == "tensorflow":
        return
    # What has started already is not given back.
    with contextlib.suppress(RuntimeError, ValueError):
        for kind in ("GPU", "TPU"):
            tf.config.set_visible_devices([], kind)
