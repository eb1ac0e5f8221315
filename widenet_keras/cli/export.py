"""`widenet export`: a saved classifier as a file that runs elsewhere."""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import tyro

from widenet_keras.cli.checks import (
    check_at_least,
    check_data,
    check_exists,
    check_memory_flag,
    check_needs_data,
    check_not_read,
)
from widenet_keras.utils.command_line import USAGE, stop
from widenet_keras.utils.memory import memory_of
from widenet_keras.utils.printable import printable_lines

_Format = Literal["saved_model", "litert", "onnx", "keras"]
_SAMPLES = 256


@dataclasses.dataclass
class Export:
    """Export a saved classifier, and check the file against it.

    Prints size, operators, agreement with the model and latency. The file is left
    behind only if it gives the model's answers.
    """

    model: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    """A .keras file, as model.save() writes."""
    kind: Annotated[_Format | None, tyro.conf.Positional] = None
    """What to write, said here or with --format."""
    format: _Format | None = None
    """What to write."""
    quantize: Literal["none", "float16", "dynamic_int8", "int8"] = "none"
    """What weights are stored in; int8 needs --data to calibrate on."""
    batch: str = "dynamic"
    """The number of images of every call, or "dynamic"."""
    input: Literal["float", "uint8", "jpeg"] = "float"
    """Floats in [-1, 1], pixels, or encoded images (saved_model)."""
    output: Path | None = None
    """Where to write; otherwise beside the model."""
    data: str | None = None
    """Images to compare on: "digits", class folders, TFRecords, an .npz file, or
    tfds:NAME; random ones if not given. Class names are those of the model; if it has
    none, those of the images."""
    data_dir: Path | None = None
    """Where TFDS keeps its data sets."""
    split: str = "validation"
    """Part of the data."""
    min_agreement: float | None = None
    """Fraction of the images on which a quantised file must have the model's top
    class. If not given: 0.995 (float16), 0.99 (dynamic_int8) or 0.95 (int8), less
    what so few images may differ by chance."""
    samples: int | None = None
    """How many of the images of --data to compare on at most, evenly spaced where they
    can be picked; 256 if not given."""
    on_error: Literal["raise", "skip"] = "raise"
    """What to do with an image that cannot be read."""
    max_memory: str = "2G"
    """Memory that the model may take beyond what its file weighs."""
    backend: Literal["tensorflow", "jax", "torch"] | None = None
    """Keras backend; otherwise KERAS_BACKEND or Keras' own configuration."""

    def check(self):
        """Says what is wrong with the words, before Keras is imported."""
        if (self.kind is None) == (self.format is None):
            line = "give one format: widenet export MODEL --format FORMAT; see --help."
            stop("widenet export", line, USAGE)
        self.format = self.format or self.kind
        self._batch()
        check_at_least("export", "--samples", self.samples)
        check_memory_flag("export", self.max_memory)
        check_exists(self.model, "the path of a .keras file")
        check_data(self.data, self.split)
        check_needs_data("--samples", self.samples, self.data)
        if self.data is None and self.quantize == "int8":
            raise ValueError(
                "--quantize int8 calibrates its ranges on images; give --data."
            )

    def run(self):
        """Exports, compares and prints."""
        from widenet_keras.exports import export
        from widenet_keras.exports.target import check_target
        from widenet_keras.inference.keras_file import KerasPredictor
        from widenet_keras.utils.files import check_place
        from widenet_keras.utils.quiet import quiet

        batch = self._batch()
        predictor = KerasPredictor(self.model, max_memory=memory_of(self.max_memory))
        output = self.output or self._beside()
        check_not_read(output, [self.model], "--output")
        check_place(output)
        check_target(output, self.format)
        with quiet():
            images, class_names = self._images(predictor)
        try:
            export(
                predictor.model,
                output,
                self.format,
                quantize=self.quantize,
                batch=batch,
                input=self.input,
                images=images,
                class_names=class_names,
                min_agreement=self.min_agreement,
                say=_say,
            )
        except RuntimeError as error:
            raise ValueError(str(error)) from error

    def _batch(self):
        """Returns the batch as the function takes it."""
        if self.batch.isdecimal():
            return int(self.batch)
        if self.batch != "dynamic":
            line = f'--batch {self.batch} must be a whole number, or "dynamic".'
            stop("widenet export", line, USAGE)
        return self.batch

    def _images(self, predictor):
        """Returns images to compare on, or None, and the class names."""
        from widenet_keras.data.labelled import labelled_images

        if self.data is None:
            return None, predictor.model.class_names
        where = (predictor.model, self.data, self.split, self.data_dir)
        how = self.samples or _SAMPLES, self.on_error
        classes = predictor.model.config.num_classes
        # Features are compared on images of any classes.
        images, _, names, _ = labelled_images(*where, *how, own_classes=not classes)
        return images, names if classes else None

    def _beside(self):
        """Returns a path beside the model that says what is there."""
        from widenet_keras.exports.options import SUFFIXES

        name = self.model.stem
        if self.quantize != "none":
            name += f"_{self.quantize}"
        if self.format == "saved_model":
            name += "_saved_model"
        return self.model.with_name(name + SUFFIXES[self.format])


def _say(text):
    print(printable_lines(text), flush=True)
