"""Images of any size and type as what a model takes, as a layer."""

import sys

import keras
import numpy as np
from keras import ops

from widenet_keras.models.image_checks import dtype_name
from widenet_keras.models.preprocessing import (
    Preprocessing,
    checked_preprocessing,
    scaled,
    usual_preprocessing,
    with_channels,
)
from widenet_keras.models.resizing import interpolated, whole
from widenet_keras.utils import numerics
from widenet_keras.utils.checks import check_integer

# How far pixels that another program resized may lie outside of 0 to 255.
_OVERSHOOT = 128


@keras.saving.register_keras_serializable("widenet_keras")
class Preprocessor(keras.layers.Layer):
    """Images (..., height, width, C) of pixels 0 to 255 to what a model takes.

        keras.Sequential([model.preprocessor, model]).predict(photos)
        dataset.map(model.preprocessor)

    They are cut, resized, rounded to whole pixels and scaled to [-1, 1] as evaluation
    does it. In `tf.data` TensorFlow computes it, whatever the backend of Keras is, and
    what comes after the images, such as their labels, is handed on.

    Args:
        image_size: Side of the images that the model takes, pixels.
        channels: C of the images that the model takes. For 3 grey images may come, for
            1 images in colour.
        preprocessing: `Preprocessing`, or the dict of one; None for the usual one.
        **kwargs: `name` and `dtype`, that of the result, as for `keras.layers.Layer`.

    Raises:
        ValueError: If an argument is out of range, or images are not as described;
            whether pixels run from 0 to 255 is looked at in NumPy arrays only.
    """

    def __init__(
        self,
        image_size: int,
        channels: int = 3,
        preprocessing: Preprocessing | dict | None = None,
        **kwargs,
    ):
        # Half precision would round what is no whole pixel.
        super().__init__(autocast=False, **kwargs)
        check_integer("Preprocessor", "image_size", image_size, 1)
        check_integer("Preprocessor", "channels", channels, 1)
        preprocessing = checked_preprocessing("Preprocessor", preprocessing)
        self.image_size = image_size
        self.channels = channels
        self.preprocessing = preprocessing or usual_preprocessing(image_size)
        # XLA has not all of TensorFlow's operations on images.
        self.supports_jit = keras.backend.backend() != "tensorflow"

    def __call__(self, images, *labels, **kwargs):
        """Checks the images, then calls the layer as Keras does.

        Args:
            images: Array or tensor (height, width, C) or (B, height, width, C) of
                pixels 0 to 255, whole or not; or a list of such images of any sizes.
            *labels: What a dataset has besides: labels, and weights of them.
            **kwargs: As for `keras.layers.Layer`.

        Returns:
            (size, size, channels) or (B, size, size, channels) in [-1, 1]; with labels
            a tuple of this and of them.
        """
        if labels:
            return self(images, **kwargs), *labels
        if isinstance(images, list | tuple) and images:
            return ops.stack([self(image, **kwargs) for image in images])
        self._check(images)
        if _is_of_tensorflow(images) and keras.backend.backend() != "tensorflow":
            return self._with_tensorflow(images)
        return super().__call__(images, **kwargs)

    def call(self, images):
        """Returns the images as a model takes them; see `__call__`."""
        if _is_of_tensorflow(images):
            return self._with_tensorflow(images)
        pixels = ops.cast(self.preprocessing.cut(images), "float32")
        pixels = interpolated(
            with_channels(pixels, self.channels, ops.concatenate),
            self.image_size,
            self.preprocessing.interpolation,
            self.preprocessing.antialias,
            ops,
            numerics.product_of_float32,
        )
        return ops.cast(scaled(whole(pixels, ops)), self.compute_dtype)

    def compute_output_shape(self, images_shape):
        """Returns the shape of the result."""
        sides = self.image_size, self.image_size, self.channels
        return (*images_shape[:-3], *sides)

    def get_config(self):
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "image_size": self.image_size,
            "channels": self.channels,
            "preprocessing": self.preprocessing.to_dict(),
        }

    def _with_tensorflow(self, images):
        from widenet_keras.models.resizing_tensorflow import prepared

        return prepared(
            images,
            self.image_size,
            self.channels,
            self.preprocessing,
            self.compute_dtype,
        )

    def _check(self, images):
        """Raises `ValueError` for what are no images of pixels 0 to 255."""
        shape, dtype = getattr(images, "shape", None), getattr(images, "dtype", None)
        takes = f"{self.name} takes images (height, width, C)"
        if shape is None or dtype is None:
            raise ValueError(
                f"{takes} and was given a {type(images).__name__}; give an array, a "
                "tensor or a list of them."
            )
        # A tensor of TensorFlow may have a shape that is not known.
        shape = tuple(shape) if getattr(shape, "rank", 0) is not None else ()
        channels = {self.channels} | ({1, 3} if self.channels in (1, 3) else set())
        if len(shape) not in (3, 4) or shape[-1] not in channels:
            number = " or ".join(map(str, sorted(channels)))
            raise ValueError(
                f"{takes} or (B, height, width, C) with C={number}, and was given "
                f"{shape or 'an unknown shape'}; decode images with a known number of "
                "channels, and leave transparency out."
            )
        if 0 in shape[-3:-1]:
            raise ValueError(f"{takes} of at least one pixel, and was given {shape}.")
        free = isinstance(images, keras.KerasTensor) or _is_of_tensorflow(images)
        if not free and not all(isinstance(side, int) for side in shape[-3:-1]):
            raise ValueError(
                f"{takes} whose height and width are known, outside of TensorFlow, and "
                f"was given {shape}; export it with such images, or on TensorFlow."
            )
        name = dtype_name(dtype)
        if not name.startswith(("uint", "int", "float", "bfloat")):
            raise ValueError(f"{takes} of pixels 0 to 255, and not of type {name}.")
        if isinstance(images, np.ndarray) and images.size:
            _check_pixels(images, takes)


def _is_of_tensorflow(images):
    """Whether these are a tensor of TensorFlow, which need not be installed."""
    tensorflow = sys.modules.get("tensorflow")
    return tensorflow is not None and isinstance(images, tensorflow.Tensor)


def _check_pixels(images, takes):
    """Raises `ValueError` for an array of numbers that are no pixels."""
    low, high = images.min(), images.max()
    whole_numbers = images.dtype.kind in "iu"
    beyond = 0 if whole_numbers else _OVERSHOOT
    # Written so that NaN fails as well.
    fits = low >= -beyond and high <= 255 + beyond
    scaled = not whole_numbers and high <= 1 and (images % 1).any()
    if scaled or not fits:
        raise ValueError(
            f"{takes} of pixels 0 to 255, and these run from {low:g} to {high:g}; give "
            "them as they were before they were scaled."
        )
