"""What is taken of images, and how they are resized, inside TensorFlow's graphs."""

import tensorflow as tf

from widenet_keras.models.preprocessing import scaled, with_channels


def window_of(preprocessing):
    """Returns what is taken of an image, as `Preprocessing.window` does.

    Args:
        preprocessing: `Preprocessing`.

    Returns:
        Function of a shape, a tensor that begins (height, width), to a tensor (top,
        left, height, width); None for all of the image.
    """

    def middle(shape):
        short = tf.cast(tf.minimum(shape[0], shape[1]), tf.float64)
        part = tf.round(preprocessing.crop_pct * short)
        side = tf.maximum(1, tf.cast(part, tf.int32))
        return tf.stack([(shape[0] - side) // 2, (shape[1] - side) // 2, side, side])

    return middle if preprocessing.crop_mode == "center" else None


def resized(images, size, interpolation="bilinear", antialias=False):
    """Returns images at another size, as `resizing.interpolated` does.

    Args:
        images: (height, width, C) or (B, height, width, C) of numbers 0 to 255.
        size: Side of the result, pixels.
        interpolation: "bilinear", "bicubic" or "lanczos".
        antialias: Whether a smaller image averages all pixels that become one.

    Returns:
        float32 (size, size, C) or (B, size, size, C).
    """
    if images.shape[-3:-1] == (size, size):
        return tf.cast(images, tf.float32)
    if interpolation == "bilinear" and not antialias:
        return tf.image.resize(images, (size, size))
    method = "lanczos3" if interpolation == "lanczos" else interpolation
    for sides in ((tf.shape(images)[-3], size), (size, size)):
        images = whole(tf.image.resize(images, sides, method, antialias=antialias))
    return images


def whole(images):
    """Returns the nearest whole pixels 0 to 255, as floats."""
    return tf.clip_by_value(tf.floor(images + 0.5), 0.0, 255.0)


def prepared(images, size, channels, preprocessing, dtype):
    """Returns images as a model takes them, see `Preprocessor`.

    Args:
        images: (height, width, C) or (B, height, width, C) of numbers 0 to 255.
        size: Side of the result, pixels.
        channels: Of the result.
        preprocessing: `Preprocessing`.
        dtype: Of the result.

    Returns:
        (size, size, channels) or (B, size, size, channels) in [-1, 1].
    """
    window = window_of(preprocessing)
    if window is not None:
        top, left, height, width = tf.unstack(window(tf.shape(images)[-3:]))
        images = images[..., top : top + height, left : left + width, :]
    pixels = with_channels(tf.cast(images, tf.float32), channels, tf.concat)
    pixels = resized(pixels, size, preprocessing.interpolation, preprocessing.antialias)
    return tf.cast(scaled(whole(pixels)), dtype)
