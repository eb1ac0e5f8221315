"""From JAX and torch to a process of TensorFlow's, which writes the export."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

_KINDS = {"ValueError": ValueError, "ImportError": ImportError, "OSError": OSError}


def write_in_tensorflow(model, path, options, manifest, images):
    """Writes an export in a process of its own, where Keras runs on TensorFlow.

    Args:
        model: The model, on another backend.
        path: Where to write.
        options: `Options`.
        manifest: Dict that goes into the file.
        images: (B, height, width, channels) float32 to calibrate on.

    Returns:
        Dict of operator names to how often the graph has them.

    Raises:
        Exception: What the process raised, or `RuntimeError`, with its first line.
    """
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        model.save(folder / "model.keras")
        np.save(folder / "images.npy", images)
        request = {**vars(options), "manifest": manifest, "path": str(path.absolute())}
        (folder / "request.json").write_text(json.dumps(request))
        module = "widenet_keras.exports.export_tensorflow"
        done = subprocess.run(
            [sys.executable, "-m", module, str(folder)],
            env=_environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        if not done.returncode:
            return json.loads((folder / "operators.json").read_text())
        failed = folder / "error.json"
        if failed.exists():
            error = json.loads(failed.read_text())
            raise _KINDS.get(error["type"], RuntimeError)(error["message"])
        *_, line = done.stderr.splitlines() or ["no word"]
        raise RuntimeError(f"its TensorFlow process ended with {line}")


def _environment():
    """Returns the environment of the process."""
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow"}
    # This process may hold the GPU, and exporting needs none.
    environment["CUDA_VISIBLE_DEVICES"] = ""
    environment.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    package = str(Path(__file__).parents[2])
    environment["PYTHONPATH"] = os.pathsep.join(
        filter(None, [package, environment.get("PYTHONPATH")])
    )
    return environment
