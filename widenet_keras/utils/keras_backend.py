"""Which backend Keras runs on, said before Keras is imported."""

import json
import os
import sys
from pathlib import Path

from widenet_keras.utils.install import install_command, is_installed

# Where nobody chooses, the first that is installed; Keras' own choice is the first.
BACKENDS = ("tensorflow", "jax", "torch")


def choose_backend(asked: str | None = None) -> None:
    """Has Keras run on a backend that is installed.

    That is the one asked for; or that of the environment variable `KERAS_BACKEND`; or
    that of Keras' own configuration; or, where this is not installed, the first one
    that is. TensorFlow then logs errors only, unless `TF_CPP_MIN_LOG_LEVEL` says
    otherwise. Does nothing after Keras was imported.

    Args:
        asked: "tensorflow", "jax" or "torch"; None leaves the choice to the others.

    Raises:
        ImportError: If the backend that was said, or every one, is missing; one line
            says what to install.
    """
    if "keras" in sys.modules:
        return
    # Below errors TensorFlow logs what nobody asked, and pages about a broken image.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    said = asked or os.environ.get("KERAS_BACKEND")
    if said in BACKENDS:
        check_installed(said)
    if not said:
        present, configured = _installed(), _configured()
        if configured not in BACKENDS or configured in present:
            return
        if not present:
            raise ImportError(
                "Keras needs a backend, and neither TensorFlow nor JAX nor PyTorch is "
                f"installed; run {install_command('tensorflow')} (or jax, or torch)."
            )
        said = present[0]
    os.environ["KERAS_BACKEND"] = said


def check_installed(backend: str) -> None:
    """Raises `ImportError` unless a backend is installed."""
    present = _installed()
    if backend not in present:
        others = f", or choose {' or '.join(present)}" if present else ""
        raise ImportError(
            f"The backend {backend} is not installed; run "
            f"{install_command(backend)}{others}."
        )


def _installed():
    """Returns the names of the backends that are installed."""
    return [name for name in BACKENDS if is_installed(name)]


def _configured():
    """Returns the backend of Keras' own configuration, which it writes by itself."""
    home = os.environ.get("KERAS_HOME", Path.home() / ".keras")
    try:
        found = json.loads((Path(home) / "keras.json").read_text()).get("backend")
    except (OSError, ValueError, AttributeError):
        found = None
    return found or BACKENDS[0]
