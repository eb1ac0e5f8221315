"""`widenet predict`: what an exported or saved model says about images."""

import dataclasses
import sys
from pathlib import Path
from typing import Annotated, Literal

import tyro

from widenet_keras.cli.checks import (
    check_at_least,
    check_exists,
    check_memory_flag,
    check_not_read,
)
from widenet_keras.utils.memory import check_taken, memory_of
from widenet_keras.utils.printable import printable, printable_lines

_BATCH = 32
_PICTURES = (".png", ".pdf", ".svg", ".jpg", ".jpeg")


@dataclasses.dataclass
class Predict:
    """Print the top classes of images, with their probabilities.

    The model is a .keras, .tflite or .onnx file or a SavedModel's folder, as
    model.save() and `widenet export` write them.
    """

    images: Annotated[
        Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE_OR_FOLDER")
    ]
    """An image, or a folder of images."""
    model: Path
    """The model's file or folder."""
    top: int = 5
    """How many classes to print."""
    verbose: bool = False
    """Say first what the model is and what it takes of an image."""
    explain: Path | None = None
    """Where to write a picture of the first image: what the model looked at and, if it
    has experts, which of them each patch went to (.keras files)."""
    trust: bool = False
    """Open a SavedModel whatever its graph may read, write or run."""
    max_memory: str = "2G"
    """Memory that the model may take beyond what its file weighs."""
    backend: Literal["tensorflow", "jax", "torch"] | None = None
    """Keras backend for a .keras file; otherwise KERAS_BACKEND or Keras' own
    configuration."""

    def check(self):
        """Says what is wrong with the words, before Keras is imported."""
        check_at_least("predict", "--top", self.top)
        check_memory_flag("predict", self.max_memory)
        if self.explain is not None and self.explain.suffix.lower() not in _PICTURES:
            raise ValueError(
                f"--explain {self.explain} is no picture; give a name that ends in "
                f"{', '.join(_PICTURES)}."
            )
        check_exists(self.images, "an image or a folder of images")
        check_exists(
            self.model, "a .keras, .tflite or .onnx file, or a SavedModel's folder"
        )

    def run(self):
        """Reads, predicts and prints."""
        from widenet_keras.data.pixels import scale_pixels
        from widenet_keras.inference import open_predictor
        from widenet_keras.inference.images import image_files
        from widenet_keras.utils.files import check_file
        from widenet_keras.utils.quiet import quiet

        max_memory = memory_of(self.max_memory)
        files = image_files(self.images)
        with quiet():
            predictor = open_predictor(
                self.model, trust=self.trust, max_memory=max_memory
            )
        if self.explain is not None:
            _check_explains(predictor, max_memory)
            check_not_read(self.explain, map(Path, files), "--explain")
            check_file(self.explain)
        if self.verbose:
            print(printable_lines(_described(predictor)))
        explained, failed = None, []
        for first in range(0, len(files), _BATCH):
            batch = files[first : first + _BATCH]
            with quiet():
                names, pixels, broken = self._read(batch, predictor)
            failed += broken
            # One that is alone is told at the end.
            for line in broken if len(files) > 1 else ():
                print(printable(line), file=sys.stderr)
            if not names:
                continue
            images = scale_pixels(pixels)
            if explained is None:
                explained = images[:1]
            with quiet():
                found = predictor.probabilities(images)
            for name, probabilities in zip(names, found, strict=True):
                top = _top(predictor.class_names, probabilities, self.top)
                print(printable(f"{name}: {top}"))
        if len(files) == len(failed) == 1:
            raise ValueError(failed[0])
        if self.explain is not None and explained is not None:
            self._explain(predictor, explained)
        if failed:
            raise ValueError(f"{len(failed)} of {len(files)} images cannot be read.")

    def _read(self, files, predictor):
        """Returns names and pixels of files that can be read, and lines on others."""
        import numpy as np

        from widenet_keras.inference.images import read_pixels

        names, pixels, broken = [], [], []
        for file in files:
            try:
                shape, preprocessing = predictor.image_shape, predictor.preprocessing
                pixels.append(read_pixels(file, shape, preprocessing))
            except ValueError as error:
                broken.append(str(error))
            else:
                names.append(file)
        return names, np.stack(pixels) if pixels else None, broken

    def _explain(self, predictor, images):
        """Writes the picture of what the model looked at, and who did the work."""
        from widenet_keras.plot import plot_explanation
        from widenet_keras.utils.files import replaced_when_done

        model, routing, shows = predictor.model, None, "attention"
        if model.config.routed_steps:
            routing, shows = model.routing(images), "attention and experts"
        shown, names = model.attention(images), predictor.class_names
        with replaced_when_done(self.explain) as path:
            plot_explanation(shown, images, routing, path=path, class_names=names)
        print(printable(f"{shows} of the first image: {self.explain}"))


def _top(names, probabilities, count):
    """Returns the most probable classes as one line."""
    best = (-probabilities).argsort(kind="stable")[:count]
    return ", ".join(f"{names[each]} {probabilities[each]:.3f}" for each in best)


def _described(predictor):
    """Returns what a file says of itself, as lines."""
    from widenet_keras.models.class_names import listed

    names, trained_on = predictor.class_names, predictor.manifest.get("trained_on")
    return (
        f"model: {predictor.path}\n"
        f"classes: {len(names)} ({listed(names)})\n"
        f"trained on: {trained_on or 'nobody said'}\n"
        "of each image: "
        f"{predictor.preprocessing.in_words(predictor.image_shape[0])}"
    )


def _check_explains(predictor, max_memory):
    """Raises `ValueError` unless the file says what the model looks at."""
    from widenet_keras.plot import load_matplotlib

    if not hasattr(predictor, "model"):
        raise ValueError(
            f"--explain needs a .keras file and {predictor.path} has logits only; give "
            "the .keras file that it was exported from."
        )
    config = predictor.model.config
    heads = max(block.spec(False).heads[0] for block in predictor.model.encoder.blocks)
    weights = 4 * config.steps * heads * config.tokens**2
    check_taken(
        "--explain", f"what {config.tokens:,} tokens look at", weights, max_memory
    )
    load_matplotlib()
