"""RandAugment's operations by keras-cv's layers, each given its random choice."""

import tensorflow as tf

from widenet_keras.data.pipeline.fast_operations import as_bytes
from widenet_keras.data.pipeline.policy import GREY
from widenet_keras.utils.install import install_command

_RANGE = (0, 255)
_MOVES = {"interpolation": "nearest", "fill_mode": "constant", "fill_value": GREY}


def operation(name):
    """Returns the function of (image, amount) that an operation is.

    Raises:
        ImportError: If keras-cv is not installed.
    """
    layers = _layers()

    def whole(layer, transformation=None):
        """Calls what a layer does to a batch with a choice that is not its own."""

        def apply(image, amount):
            choice = transformation(image, amount) if transformation else None
            images = tf.cast(image[None], tf.float32)
            return as_bytes(layer.augment_images(images, transformations=choice)[0])

        return apply

    def as_factor(_, amount):
        return tf.reshape(amount, (1, 1, 1, 1))

    def towards(_, amount):
        # How far to go to the plain image, where ours says how far to stay away.
        return tf.reshape(1.0 - amount, (1, 1, 1, 1))

    def row(amount):
        return tf.reshape(amount, (1, 1))

    zero = tf.zeros((1, 1))
    if name == "identity":
        return lambda image, amount: image
    if name == "auto_contrast":
        return whole(layers.AutoContrast(value_range=_RANGE))
    if name == "equalize":
        return whole(layers.Equalization(value_range=_RANGE))
    if name == "rotate":
        return whole(
            layers.RandomRotation(1.0, **_MOVES),
            lambda _, amount: {"angles": tf.reshape(amount, (1,))},
        )
    if name == "solarize":
        return whole(
            layers.Solarization(value_range=_RANGE),
            lambda _, amount: {"additions": 0.0, "thresholds": float(amount)},
        )
    if name == "posterize":
        return lambda image, amount: as_bytes(
            layers.Posterization(value_range=_RANGE, bits=amount).augment_image(
                tf.cast(image, tf.float32)
            )
        )
    if name == "color":
        color = whole(layers.RandomColorDegeneration(1.0), towards)
        return lambda image, amount: (
            image if image.shape[-1] == 1 else color(image, amount)
        )
    if name == "contrast":
        return whole(layers.RandomContrast(_RANGE, 1.0), as_factor)
    if name == "brightness":
        return whole(layers.RandomBrightness(1.0, _RANGE), as_factor)
    if name == "sharpness":
        return whole(layers.RandomSharpness(1.0, _RANGE), towards)
    if name in ("shear_x", "shear_y"):
        return whole(
            layers.RandomShear(x_factor=1.0, **_MOVES),
            # A shear that is None is left out, where one of 0 would be computed.
            lambda _, amount: {
                "shear_x": row(amount) if name == "shear_x" else None,
                "shear_y": row(amount) if name == "shear_y" else None,
            },
        )
    return whole(
        layers.RandomTranslation(1.0, 1.0, **_MOVES),
        lambda _, amount: {
            "width_translations": row(amount) if name == "translate_x" else zero,
            "height_translations": row(amount) if name == "translate_y" else zero,
        },
    )


def _layers():
    try:
        import keras_cv
    except ImportError:
        raise ImportError(
            "randaugment='keras_cv' needs keras-cv, which is not installed; run "
            f"{install_command('keras-cv')}, or use randaugment='widenet'."
        ) from None
    return keras_cv.layers
