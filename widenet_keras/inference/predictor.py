"""What every exported file can do, whatever its format."""

import os
from typing import Any

import numpy as np

from widenet_keras.data.pixels import as_floats, whole_pixels
from widenet_keras.files.manifest import Interface, check_fits, outputs_of
from widenet_keras.models.preprocessing import Preprocessing
from widenet_keras.utils.plain_errors import first_line
from widenet_keras.utils.softmax import probabilities


class Predictor:
    """Logits of images from one file. Subclasses say how a batch is run.

    Any number of threads may ask one predictor.

    Args:
        path: The file, for messages.
        manifest: Dict of the file, as `widenet_keras.files.manifest` makes it.
        interface: `Interface` of the model.
        max_memory: Bytes that it may take beyond what the file weighs.

    Raises:
        ValueError: If the manifest is about another model.

    Attributes:
        image_shape: (height, width, channels) of the images it takes.
        class_names: Names of the classes, in the order of the logits; of a model
            without classes there are none, and it has `features`.
        preprocessing: `Preprocessing`: how images of any size become its images.
        input: "float" or "uint8", what `run` takes.
        batch_size: The only number of images that `run` takes, or None.
    """

    input = "float"
    batch_size = None

    def __init__(
        self,
        path: str | os.PathLike,
        manifest: dict[str, Any],
        interface: Interface,
        max_memory: int,
    ):
        check_fits(path, manifest, interface, max_memory)
        self.path = path
        self.manifest = manifest
        self.image_shape = tuple(manifest["image_shape"])
        self.class_names = list(manifest["class_names"])
        self.preprocessing = Preprocessing.from_dict(manifest["preprocessing"])
        if manifest["batch"] != "dynamic":
            self.batch_size = manifest["batch"]

    def run(self, images: np.ndarray) -> np.ndarray:
        """Returns the logits of one batch that fits the file, as NumPy.

        Args:
            images: (B, height, width, channels) of the dtype of `input`.
        """
        raise NotImplementedError

    def logits(self, images: np.ndarray) -> np.ndarray:
        """Returns the logits (B, classes) float32; features without classes.

        Args:
            images: (B, height, width, channels) floats in [-1, 1], or whole pixels.

        Raises:
            ValueError: If the images have another shape, or values that are neither,
                or the file cannot be run or answers with what are no numbers.
        """
        images = as_floats(images)
        if images.ndim != 4 or images.shape[1:] != self.image_shape:
            one = images.shape == self.image_shape
            change = "for one image give images[None]" if one else "resize them"
            raise ValueError(
                f"{self.path} takes images of shape (batch, "
                f"{', '.join(map(str, self.image_shape))}) and these have "
                f"{images.shape}; {change}."
            )
        if not len(images):
            # Compilers and interpreters divide by the number of images.
            return np.zeros((0, outputs_of(self.manifest)), "float32")
        if self.input == "uint8":
            images = whole_pixels(images)
        size = self.batch_size or len(images)
        logits = np.concatenate(
            [
                self._filled(images[first : first + size], size)
                for first in range(0, len(images), size)
            ]
        )
        bad = int((~np.isfinite(logits)).any(axis=-1).sum())
        if bad:
            raise ValueError(
                f"{self.path} answers {bad} of {len(images)} images with what are no "
                "numbers (NaN or infinite); its weights are damaged, or its training "
                "diverged: give an earlier file."
            )
        return logits

    def features(self, images: np.ndarray) -> np.ndarray:
        """Returns the features (B, D) float32 of a model without classes.

        Args:
            images: As for `logits`.

        Raises:
            ValueError: As for `logits`, or if the model has classes.
        """
        if self.class_names:
            raise ValueError(
                f"{self.path} has {len(self.class_names)} classes, so it gives logits "
                "and no features; export model.adapted(num_classes=0) for them."
            )
        return self.logits(images)

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Returns the softmax of `logits`, (B, classes).

        Raises:
            ValueError: As for `logits`, or if the model has no classes.
        """
        if not self.class_names:
            raise ValueError(
                f"{self.path} has no classes (num_classes=0), so it gives features and "
                "no probabilities; use open_predictor(path).features(images)."
            )
        return probabilities(self.logits(images).astype("float64"))

    def _filled(self, images, size):
        """Runs a batch that may be too small, filled up with its last image."""
        missing = size - len(images)
        filled = np.concatenate([images, np.repeat(images[-1:], missing, axis=0)])
        return self._run(filled)[: len(images)]

    def _run(self, images):
        """Runs a batch; what the library below raises becomes one line."""
        try:
            return self.run(images)
        except Exception as error:
            raise ValueError(
                f"{self.path} cannot be run on images {images.shape} "
                f"({first_line(error)}); export it again, or give fewer images at once."
            ) from error
