"""What an export is asked to be, and what each format can be."""

import dataclasses

from widenet_keras.utils.checks import check_choice, check_integer, check_number
from widenet_keras.utils.install import install_command, is_installed

# Of each format what its files end in; a SavedModel is a folder.
SUFFIXES = {"saved_model": "", "litert": ".tflite", "onnx": ".onnx", "keras": ".keras"}
FORMATS = tuple(SUFFIXES)
QUANTIZATIONS = ("none", "float16", "dynamic_int8", "int8")
INPUTS = ("float", "uint8", "jpeg")

# What a format cannot be, and what to ask for instead.
_MISSING = {
    ("saved_model", "int8"): "TensorFlow has no int8 kernels there; use dynamic_int8, "
    "litert or onnx",
    ("keras", "int8"): "Keras takes no calibrated ranges; use dynamic_int8, litert or "
    "onnx",
    ("keras", "uint8"): "the model itself takes floats; use another format",
    ("keras", "jpeg"): "the model itself takes floats; use saved_model",
    ("litert", "jpeg"): "LiteRT decodes no images; use uint8, or saved_model",
    ("onnx", "jpeg"): "ONNX decodes no images; use uint8, or saved_model",
}
# Modules that writing and checking a format takes, and the extra that brings them.
_MODULES = {
    "saved_model": (("tensorflow", "tensorflow"),),
    "litert": (("tensorflow", "tensorflow"),),
    "onnx": (
        ("tensorflow", "tensorflow"),
        ("tf2onnx", "onnx"),
        ("onnx", "onnx"),
        ("onnxruntime", "onnx"),
    ),
    "keras": (),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What to export.

    Attributes:
        format: One of `FORMATS`.
        quantize: One of `QUANTIZATIONS`.
        batch: "dynamic", or the number of images that every call must have.
        input: One of `INPUTS`.
        min_agreement: Fraction of the images on which a quantised file must have the
            model's top class; None takes what `compare.check` says.

    Raises:
        ValueError: If the format cannot be that; one line says what can.
        ImportError: If a package is missing; one line says what to install.
    """

    format: str = "saved_model"
    quantize: str = "none"
    batch: int | str = "dynamic"
    input: str = "float"
    min_agreement: float | None = None

    def __post_init__(self):
        check_choice("export", "format", self.format, FORMATS)
        check_choice("export", "quantize", self.quantize, QUANTIZATIONS)
        check_choice("export", "input", self.input, INPUTS)
        if self.batch != "dynamic":
            check_integer("export", 'batch (or "dynamic")', self.batch, 1)
        if self.min_agreement is not None:
            _check_fraction(self.min_agreement)
        for field in ("quantize", "input"):
            value = getattr(self, field)
            if (self.format, value) in _MISSING:
                raise ValueError(
                    f"export: format={self.format!r} has no {field}={value!r}: "
                    f"{_MISSING[self.format, value]}."
                )
        if self.format == "keras" and self.batch != "dynamic":
            raise ValueError(
                f"export: format='keras' takes any batch, not batch={self.batch}; use "
                "another format for a fixed one."
            )
        for module, extra in _MODULES[self.format]:
            if not is_installed(module):
                raise ImportError(
                    f"A {self.format} export needs {module}, which is not installed; "
                    f"run {install_command(extra)}."
                )

    @property
    def batch_size(self):
        """The fixed number of images, or None."""
        return None if self.batch == "dynamic" else self.batch


def _check_fraction(value):
    check_number("export", "min_agreement", value, 0)
    if value > 1:
        raise ValueError(
            f"export: min_agreement={value!r} must be a fraction of the images, in "
            f"[0, 1]; for {value:g} % give {value / 100:g}."
        )
