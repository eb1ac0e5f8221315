"""RandAugment's operations on one uint8 image, written for XLA.

XLA makes one pass over the image of what would be many, so plain formulas are fast.
All shapes are static.
"""

import tensorflow as tf

from widenet_keras.data.pipeline.policy import GREY

# Of ITU-R BT.601, as in `tf.image.rgb_to_grayscale`.
_LUMA = (0.2989, 0.5870, 0.1140)


def operation(name):
    """Returns the function of (image, amount) that an operation is."""
    return globals()[f"_{name}"]


def _identity(image, amount):
    return image


def _auto_contrast(image, amount):
    pixels = tf.cast(image, tf.float32)
    low, high = (
        _each_channel(tf.reduce_min, pixels),
        _each_channel(tf.reduce_max, pixels),
    )
    stretched = (pixels - low) * (255.0 / tf.maximum(high - low, 1.0))
    return tf.where(high > low, as_bytes(stretched), image)


def _equalize(image, amount):
    height, width, channels = image.shape
    index = tf.reshape(tf.cast(image, tf.int32), (-1, channels))
    index += 256 * tf.range(channels)
    counts = tf.math.unsorted_segment_sum(tf.ones_like(index), index, 256 * channels)
    counts = tf.reshape(counts, (channels, 256))
    # The least count that is not zero, for keras-cv; PIL takes the last one.
    spared = tf.reduce_min(tf.where(counts == 0, tf.int32.max, counts), 1)
    step = (height * width - spared[:, None]) // 255
    divisor = tf.maximum(step, 1)
    table = (tf.cumsum(counts, 1, exclusive=True) + divisor // 2) // divisor
    table = tf.where(step == 0, tf.range(256), tf.clip_by_value(table, 0, 255))
    # A rising table is sorted already; but XLA, which would compute the table again
    # for every pixel, does not look through a sort.
    table = tf.reshape(tf.sort(table, axis=1), (-1,))
    return tf.cast(tf.reshape(tf.gather(table, index), image.shape), tf.uint8)


def _solarize(image, amount):
    return tf.where(tf.cast(image, tf.int32) < amount, image, 255 - image)


def _posterize(image, amount):
    return tf.bitwise.bitwise_and(image, tf.constant(256 - 2 ** (8 - amount), tf.uint8))


def _brightness(image, amount):
    return as_bytes(tf.cast(image, tf.float32) + amount)


def _contrast(image, amount):
    pixels = tf.cast(image, tf.float32)
    mean = _each_channel(tf.reduce_mean, pixels)
    return as_bytes(mean + amount * (pixels - mean))


def _color(image, amount):
    if image.shape[-1] == 1:
        return image
    pixels = tf.cast(image, tf.float32)
    grey = tf.reduce_sum(pixels * tf.constant(_LUMA), -1, keepdims=True)
    return as_bytes(grey + amount * (pixels - grey))


def _sharpness(image, amount):
    """Moves away from the mean of 3x3 pixels, the middle one counted five times."""
    height, width, channels = image.shape
    rows = tf.reshape(tf.cast(image, tf.int32), (height, width * channels))
    wide = tf.pad(rows, ((0, 0), (channels, channels)))
    sums = wide[:, : -2 * channels] + rows + wide[:, 2 * channels :]
    tall = tf.pad(sums, ((1, 1), (0, 0)))
    sums = tall[:-2] + sums + tall[2:] + 4 * rows
    smooth = tf.cast(sums, tf.float32) / 13.0
    sharp = as_bytes(smooth + amount * (tf.cast(rows, tf.float32) - smooth))
    row, column = tf.range(height)[:, None, None], tf.range(width)[:, None]
    inside = (row > 0) & (row < height - 1) & (column > 0) & (column < width - 1)
    return tf.where(inside, tf.reshape(sharp, image.shape), image)


def _rotate(image, amount):
    cosine, sine = tf.cos(amount), tf.sin(amount)
    bottom, right = image.shape[0] - 1.0, image.shape[1] - 1.0
    return _moved(
        image,
        (cosine, -sine, (right - (cosine * right - sine * bottom)) / 2),
        (sine, cosine, (bottom - (sine * right + cosine * bottom)) / 2),
    )


def _shear_x(image, amount):
    return _moved(image, (1.0, amount, 0.0), (0.0, 1.0, 0.0))


def _shear_y(image, amount):
    return _moved(image, (1.0, 0.0, 0.0), (amount, 1.0, 0.0))


def _translate_x(image, amount):
    return _moved(image, (1.0, 0.0, -amount * image.shape[1]), (0.0, 1.0, 0.0))


def _translate_y(image, amount):
    return _moved(image, (1.0, 0.0, 0.0), (0.0, 1.0, -amount * image.shape[0]))


def _moved(image, across, down):
    """Takes every pixel from the nearest place of an affine map; grey outside.

    Args:
        image: uint8 (height, width, C).
        across: (a, b, c): the column is a * x + b * y + c.
        down: (a, b, c): the row, likewise.
    """
    height, width, channels = image.shape
    x = tf.range(width, dtype=tf.float32)
    y = tf.range(height, dtype=tf.float32)[:, None]
    column = tf.cast(
        tf.floor(across[0] * x + across[1] * y + across[2] + 0.5), tf.int32
    )
    row = tf.cast(tf.floor(down[0] * x + down[1] * y + down[2] + 0.5), tf.int32)
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    place = tf.clip_by_value(row, 0, height - 1) * width
    place += tf.clip_by_value(column, 0, width - 1)
    moved = tf.gather(tf.reshape(image, (height * width, channels)), place)
    return tf.where(inside[..., None], moved, tf.constant(GREY, tf.uint8))


def _each_channel(reduce, pixels):
    """Reduces every channel to (1, 1, C), along whole rows first, which is faster."""
    height, width, channels = pixels.shape
    rows = reduce(tf.reshape(pixels, (height, width * channels)), 0)
    return tf.reshape(reduce(tf.reshape(rows, (width, channels)), 0), (1, 1, channels))


def as_bytes(values):
    """Returns float pixels as uint8, rounded and within its range."""
    return tf.cast(tf.clip_by_value(values, 0.0, 255.0) + 0.5, tf.uint8)
