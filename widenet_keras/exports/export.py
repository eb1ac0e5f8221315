"""The export function, on any backend, with a check of what was written."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import keras
import numpy as np

from widenet_keras.data.pixels import as_floats, scale_pixels, whole_pixels
from widenet_keras.exports.compare import check, report_on
from widenet_keras.exports.export_report import ExportReport
from widenet_keras.exports.keras_file import write_keras
from widenet_keras.exports.options import Options
from widenet_keras.exports.own_process import write_in_tensorflow
from widenet_keras.exports.precision import exact_products
from widenet_keras.exports.target import check_target
from widenet_keras.files.manifest import manifest_of
from widenet_keras.models.widenet import WideNet
from widenet_keras.utils import numerics
from widenet_keras.utils.files import replaced_when_done
from widenet_keras.utils.plain_errors import first_line
from widenet_keras.utils.quiet import quiet

# Enough to see a wrong graph; agreement on real images is for who has some.
_SAMPLES = 8


def export(
    model: WideNet,
    path: str | os.PathLike,
    format: Literal["saved_model", "litert", "onnx", "keras"] = "saved_model",
    *,
    quantize: Literal["none", "float16", "dynamic_int8", "int8"] = "none",
    batch: int | Literal["dynamic"] = "dynamic",
    input: Literal["float", "uint8", "jpeg"] = "float",
    images: np.ndarray | None = None,
    class_names: Sequence[str] | None = None,
    min_agreement: float | None = None,
    say: Callable[[str], object] = print,
) -> ExportReport:
    """Writes a model as one file that runs elsewhere, and checks it.

    Nothing is left behind if the check fails (`widenet_keras.exports.compare.check`
    has the bounds); an older export is replaced only by one that passed. A model of
    a lower precision is exported in float32, and one that reads a ring with its kernels
    written out, as by `untie`; a `.keras` file of floats keeps the ring. `quantize` is
    what weights are stored in: float32, float16, int8 ("dynamic_int8", activations stay
    float or are rounded by what each row holds), or int8 with activations in int8 whose
    ranges are calibrated on `images` ("int8", LiteRT and ONNX).

    Args:
        model: A `WideNet` or `ImageClassifier`, on any backend.
        path: File to write; a folder for "saved_model".
        format: "saved_model", "litert" (a .tflite file), "onnx" or "keras".
        quantize: "none", "float16", "dynamic_int8" or "int8".
        batch: "dynamic", or the number of images that every call will have.
        input: "float" for images in [-1, 1], "uint8" for pixels, or "jpeg" for
            encoded images of any size. A SavedModel takes all three, and this is
            its default signature.
        images: (B, height, width, channels) to compare and calibrate on, floats in
            [-1, 1] or uint8 pixels; None for random ones, which calibrate nothing
            well.
        class_names: Names of the classes, in order; None for those of the model, or
            their numbers where it has none.
        min_agreement: Fraction of `images` on which a quantised file must have the
            model's top class; None for a bound of each quantisation, from which the
            sample may differ by chance (`widenet_keras.exports.compare.check`).
        say: Function that takes the lines of progress and the report.

    Returns:
        An `ExportReport`.

    Raises:
        ValueError: If the format cannot be what is asked for, or something else
            would be lost at the path.
        ImportError: If a package is missing; one line says what to install.
        RuntimeError: If a converter fails, or the file's answers are not those of
            the model.
    """
    options = Options(
        format=format,
        quantize=quantize,
        batch=batch,
        input=input,
        min_agreement=min_agreement,
    )
    if not isinstance(model, WideNet):
        raise ValueError(
            f"export: the model is a {type(model).__name__} and must be an "
            "ImageClassifier; Keras' own models have model.export(path)."
        )
    if not isinstance(path, str | os.PathLike) or not str(path):
        raise ValueError(
            f"export: the path is {path!r}; give a string or a pathlib.Path."
        )
    _check_model(model, options)
    path = Path(path)
    check_target(path, format)
    manifest = manifest_of(model, options, class_names)
    say(f"exporting {model.name} to {path} ({format}, quantize={quantize}) ...")
    model = _in_float32(_with_kernels(model, options, say))
    samples = _samples(model, images, options)
    with exact_products(), replaced_when_done(path) as fresh:
        logits = _logits(model, samples)
        with quiet():
            operators = _write(model, fresh, path, options, manifest, samples)
            report = report_on(fresh, path, options, samples, logits, model, operators)
        check(report, model.quantization, min_agreement, images is None)
    say(str(report))
    return report


def _write(model, fresh, path, options, manifest, samples):
    """Writes the file; returns the operators of its graph."""
    try:
        if options.format == "keras":
            return write_keras(model, fresh, options, manifest)
        if keras.backend.backend() == "tensorflow":
            from widenet_keras.exports.export_tensorflow import write

            return write(model, fresh, options, manifest, samples)
        return write_in_tensorflow(model, fresh, options, manifest, samples)
    except (ValueError, ImportError, OSError):
        raise
    # Converters raise classes of their own.
    except Exception as error:
        raise RuntimeError(
            f"The {options.format} export failed ({first_line(error)}); {path} was not "
            "written."
        ) from error


def _check_model(model, options):
    """Raises `ValueError` if a model cannot be exported as it is asked for."""
    possible = options.format in ("saved_model", "keras")
    if model.quantization and (options.quantize != "none" or not possible):
        raise ValueError(
            f"export: {model.name} is quantised to {model.quantization!r} already, so "
            "format must be 'saved_model' or 'keras' and quantize 'none'; or export "
            f"the float model with quantize={options.quantize!r}."
        )
    rounds = options.quantize != "none" or model.quantization
    if options.min_agreement is not None and not rounds:
        raise ValueError(
            "export: min_agreement is for what rounding changes, and quantize='none' "
            "rounds nothing; leave it out."
        )
    if options.input == "jpeg" and model.config.channels not in (1, 3):
        raise ValueError(
            f"export: input='jpeg' and images of {model.config.channels} channels; "
            "encoded images have 1 or 3, so use input='float'."
        )


def _with_kernels(model, options, say):
    """Returns the model without a ring; a `.keras` file of floats may have one."""
    ring, rounds = model.config.ring_size, options.quantize == "dynamic_int8"
    if ring is None or (options.format == "keras" and not rounds):
        return model
    found = model.adapted(ring_size=None)
    say(
        f"its kernels are read from a ring of {ring:,} and written out: "
        f"{found.count_params():,} parameters instead of {model.count_params():,}."
    )
    return found


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
    if not len(images):
        raise ValueError("export: images has none; give one at least, or leave it out.")
    images = as_floats(images)
    return images if options.input == "float" else scale_pixels(whole_pixels(images))


def _logits(model, images):
    """Returns the model's logits as NumPy."""
    with numerics.without_gradients():
        logits = np.concatenate(
            [
                keras.ops.convert_to_numpy(
                    model(images[first : first + 32], training=False)
                )
                for first in range(0, len(images), 32)
            ]
        )
    if not np.isfinite(logits).all():
        raise ValueError(
            f"export: {model.name} answers with what are no numbers (NaN or infinite); "
            "its weights are damaged, or its training diverged: load an earlier model."
        )
    return logits
