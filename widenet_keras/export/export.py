"""The two export functions, on any backend, with a check of what was written."""

import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import keras
import numpy as np

from widenet_keras.utils.files import replaced_when_done


def export_saved_model(model, path, images=None):
    """Writes a SavedModel with a dynamic batch and checks it against the model.

    It computes in float32, whatever the model was trained in.

    Its `serve` signature takes float images (B, height, width, channels) scaled
    to [-1, 1] and returns logits (B, classes). Nothing is left behind if the
    check fails; an older export is replaced only by one that passed.

    Args:
        model: A `WideNet` or `ImageClassifier`, on any backend.
        path: Folder to write.
        images: Float images to compare on; None for four random ones.

    Returns:
        The largest difference between the logits of model and file.

    Raises:
        ImportError: If TensorFlow is not installed.
        RuntimeError: If the file's logits differ by more than 1e-4.
    """
    return _export(model, path, images, "saved_model")


def export_litert(model, path, images=None):
    """Writes a LiteRT (TFLite) file with a dynamic batch and checks it.

    Built-in operators only. Input and output are those of
    `export_saved_model`; so are the check and the errors.

    Args:
        model: A `WideNet` or `ImageClassifier`, on any backend.
        path: File to write, usually `*.tflite`.
        images: Float images to compare on; None for four random ones.

    Returns:
        The largest difference between the logits of model and file.
    """
    return _export(model, path, images, "litert")


def _export(model, path, images, kind):
    if importlib.util.find_spec("tensorflow") is None:
        raise ImportError(
            "Exports go through TensorFlow, which is not installed; run "
            "pip install 'widenet_keras[tensorflow]'."
        )
    if images is None:
        shape = (4, *model.config.image_shape)
        images = np.random.default_rng(0).uniform(-1, 1, shape).astype("float32")
    # Exports compute in float32, so they are compared with a model that does.
    if model.compute_dtype != "float32":
        model = model.adapted(dtype="float32")
    logits = keras.ops.convert_to_numpy(model(images, training=False))
    with replaced_when_done(path) as fresh:
        if keras.backend.backend() == "tensorflow":
            from widenet_keras.export.tensorflow_export import write_and_compare

            difference = write_and_compare(model, fresh, kind, images, logits)
        else:
            difference = _export_in_tensorflow(model, fresh, kind, images, logits)
        if not difference <= 1e-4:
            raise RuntimeError(
                f"The {kind} export differs from the model by {difference:.2g} in the "
                f"logits, over the allowed 1e-4; {path} was not written."
            )
    return difference


def _export_in_tensorflow(model, path, kind, images, logits):
    """Exports in a process of its own, where Keras runs on TensorFlow."""
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        model.save(folder / "model.keras")
        np.savez(folder / "samples.npz", images=images, logits=logits)
        environment = {**os.environ, "KERAS_BACKEND": "tensorflow"}
        # This process may hold the GPU, and exporting needs none.
        environment["CUDA_VISIBLE_DEVICES"] = ""
        environment.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        package = str(Path(__file__).parents[2])
        environment["PYTHONPATH"] = os.pathsep.join(
            filter(None, [package, environment.get("PYTHONPATH")])
        )
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "widenet_keras.export.tensorflow_export",
                str(folder),
                str(path.absolute()),
                kind,
            ],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(
                f"The {kind} export in a TensorFlow process failed:\n{done.stderr}"
            )
        return float((folder / "difference.txt").read_text())
