"""`widenet predict`: what an exported or saved model says about images."""

import dataclasses
import sys
from pathlib import Path
from typing import Annotated, Literal

import tyro

from widenet_keras.cli.checks import check_at_least, check_exists

_BATCH = 32
_PICTURES = (".png", ".pdf", ".svg", ".jpg")


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
    explain: Path | None = None
    """Where to write a picture of which expert each patch of the first image went
    to (.keras files of models with experts)."""
    backend: Literal["tensorflow", "jax", "torch"] | None = None
    """Keras backend for a .keras file; otherwise KERAS_BACKEND or Keras' own
    configuration."""

    def check(self):
        """Says what is wrong with the words, before Keras is imported."""
        check_at_least("predict", "--top", self.top)
        if self.explain is not None and self.explain.suffix not in _PICTURES:
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
        from widenet_keras.utils.quiet import quiet

        files = image_files(self.images)
        with quiet():
            predictor = open_predictor(self.model)
        if self.explain is not None:
            _check_explains(predictor)
        explained, failed = None, []
        for first in range(0, len(files), _BATCH):
            batch = files[first : first + _BATCH]
            with quiet():
                names, pixels = self._read(batch, predictor, failed)
            if not names:
                continue
            images = scale_pixels(pixels)
            if explained is None:
                explained = images[:1]
            with quiet():
                found = predictor.probabilities(images)
            for name, probabilities in zip(names, found, strict=True):
                print(f"{name}: {_top(predictor.class_names, probabilities, self.top)}")
        if explained is None:
            raise ValueError(failed[0])
        if self.explain is not None:
            self._explain(predictor.model, explained)
        if failed:
            raise ValueError(f"{len(failed)} of {len(files)} images cannot be read.")

    def _read(self, files, predictor, failed):
        """Returns the names and pixels of the files that can be read."""
        import numpy as np

        from widenet_keras.inference.images import read_pixels

        names, pixels = [], []
        for file in files:
            try:
                pixels.append(read_pixels(file, predictor.image_shape))
            except ValueError as error:
                failed.append(str(error))
                if len(files) > 1:
                    print(error, file=sys.stderr)
            else:
                names.append(file)
        return names, np.stack(pixels) if pixels else None

    def _explain(self, model, images):
        """Writes the picture of where the patches went."""
        from widenet_keras.plot import plot_routing
        from widenet_keras.utils.files import replaced_when_done

        with replaced_when_done(self.explain) as path:
            plot_routing(model.routing(images), images, path=path)
        print(f"routing of the first image: {self.explain}")


def _top(names, probabilities, count):
    """Returns the most probable classes as one line."""
    best = (-probabilities).argsort(kind="stable")[:count]
    return ", ".join(f"{names[each]} {probabilities[each]:.3f}" for each in best)


def _check_explains(predictor):
    """Raises `ValueError` unless the file says where its patches go."""
    from widenet_keras.plot import load_matplotlib

    if not hasattr(predictor, "model"):
        raise ValueError(
            f"--explain needs a .keras file and {predictor.path} has logits only; give "
            "the .keras file that it was exported from."
        )
    if not predictor.model.config.routed_steps:
        raise ValueError(
            f"--explain shows where patches go, and {predictor.path} has no mixture of "
            "experts; leave it out."
        )
    load_matplotlib()
