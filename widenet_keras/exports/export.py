"""The export function, on any backend, with a check of what was written."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import keras
import numpy as np

from widenet_keras.data.pixels import scale_pixels, whole_pixels
from widenet_keras.exports.compare import check, report_on
from widenet_keras.exports.keras_file import write_keras
from widenet_keras.exports.options import Options
from widenet_keras.inference.manifest import manifest_of
from widenet_keras.utils.files import replaced_when_done

# Enough to see a wrong graph; agreement on real images is for who has some.
_SAMPLES = 8


def export(
    model,
    path,
    format="saved_model",
    *,
    quantize="none",
    batch="dynamic",
    input="float",
    images=None,
    class_names=None,
    say=print,
):
    """Writes a model as one file that runs elsewhere, and checks it.

    Nothing is left behind if the check fails (`widenet_keras.exports.compare.check`
    has the bounds); an older export is replaced only by one that passed. A model of
    a lower precision is exported in float32. `quantize` is what weights are stored
    in: float32, float16, int8 ("dynamic_int8", activations stay float or take their
    ranges from each call), or int8 with activations in int8 whose ranges are
    calibrated on `images` ("int8", ONNX).

    Args:
        model: A `WideNet` or `ImageClassifier`, on any backend.
        path: File to write; a folder for "saved_model".
        format: "saved_model", "litert" (a .tflite file), "onnx" or "keras".
        quantize: "none", "float16", "dynamic_int8" or "int8".
        batch: "dynamic", or the number of images that every call will have.
        input: "float" for images in [-1, 1], "uint8" for pixels, or "jpeg" for
            encoded images of any size. A SavedModel takes all three, and this is
            its default signature.
        images: (B, height, width, channels) float images in [-1, 1] to compare and
            calibrate on; None for random ones, which calibrate nothing well.
        class_names: Names of the classes, in order; None for their numbers.
        say: Function that takes the lines of progress and the report.

    Returns:
        An `ExportReport`.

    Raises:
        ValueError: If the format cannot be what is asked for.
        ImportError: If a package is missing; one line says what to install.
        RuntimeError: If the file's answers are not those of the model.
    """
    options = Options(format=format, quantize=quantize, batch=batch, input=input)
    _check_float(model, options)
    path = Path(path)
    manifest = manifest_of(model, options, class_names)
    say(f"exporting {model.name} to {path} ({format}, quantize={quantize}) ...")
    model = _in_float32(model)
    samples = _samples(model, images, options)
    logits = _logits(model, samples)
    with replaced_when_done(path) as fresh:
        if format == "keras":
            operators = write_keras(model, fresh, options, manifest)
        elif keras.backend.backend() == "tensorflow":
            from widenet_keras.exports.tensorflow_export import write

            operators = write(model, fresh, options, manifest, samples)
        else:
            operators = _write_in_tensorflow(model, fresh, options, manifest, samples)
        report = report_on(
            fresh, path, options, samples, logits, model.count_params(), operators
        )
        check(report)
    say(str(report))
    return report


def _check_float(model, options):
    """Raises `ValueError` if a quantised model is asked for what it cannot be."""
    possible = options.format in ("saved_model", "keras")
    if model.quantization and (options.quantize != "none" or not possible):
        raise ValueError(
            f"export: {model.name} is quantised to {model.quantization!r} already, so "
            "format must be 'saved_model' or 'keras' and quantize 'none'; or export "
            f"the float model with quantize={options.quantize!r}."
        )


def _in_float32(model):
    """Returns the model as exports compute: in float32, with the engine they ask for.

    Weights that Keras has quantised stay as they are.
    """
    plain = model.compute_dtype == "float32" and model.config.engine == "auto"
    if plain or model.quantization:
        return model
    return model.adapted(dtype="float32", engine="auto")


def _samples(model, images, options):
    """Returns images to compare on; whole pixels where the file takes pixels."""
    if images is None:
        shape = (_SAMPLES, *model.config.image_shape)
        images = np.random.default_rng(0).uniform(-1, 1, shape)
    images = np.asarray(images, "float32")
    if options.batch_size:
        # A fixed batch is filled by turning around.
        count = -len(images) % options.batch_size
        images = np.concatenate([images, np.resize(images, (count, *images.shape[1:]))])
    if options.input == "float":
        return images
    return scale_pixels(whole_pixels(images))


def _logits(model, images):
    """Returns the model's logits as NumPy."""
    return np.concatenate(
        [
            keras.ops.convert_to_numpy(
                model(images[first : first + 32], training=False)
            )
            for first in range(0, len(images), 32)
        ]
    )


def _write_in_tensorflow(model, path, options, manifest, images):
    """Writes in a process of its own, where Keras runs on TensorFlow."""
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        model.save(folder / "model.keras")
        np.save(folder / "images.npy", images)
        request = {**vars(options), "manifest": manifest, "path": str(path.absolute())}
        (folder / "request.json").write_text(json.dumps(request))
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
                "widenet_keras.exports.tensorflow_export",
                str(folder),
            ],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(
                f"The {options.format} export in a TensorFlow process failed:\n"
                f"{done.stderr}"
            )
        return json.loads((folder / "operators.json").read_text())
