"""From encoded images to crops of the right size, reading no more than the crop."""

import tensorflow as tf

from widenet_keras.data.augmentation import ASPECT_RATIOS
from widenet_keras.data.pipeline import formats
from widenet_keras.data.pipeline.orientation import (
    orientation_of,
    stored_window,
    upright,
)
from widenet_keras.models import resizing_tensorflow
from widenet_keras.models.preprocessing import with_channels

# Nothing here is Python that AutoGraph would have to rewrite, which takes it seconds.
plain = tf.autograph.experimental.do_not_convert

# Columns beside a part of a JPEG that its colours are smoothed with.
_MARGIN = 2


@plain
def training_crop(image, layout, augmentation, pair, draws):
    """Returns a crop of an image for training.

    Args:
        image: Encoded image, or uint8 (height, width, C).
        layout: `Layout` of the batches.
        augmentation: `Augmentation`.
        pair: (2,) seed of the window of an inception crop.
        draws: (2,) floats in [0, 1): where a "pad" crop lies.

    Returns:
        float32 (image_size, image_size, channels), pixels 0 to 255.
    """
    if augmentation.crop == "inception":
        image = _window(
            image,
            lambda shape: _inception_window(shape, augmentation.min_area, pair),
            layout.channels,
        )
        return _resized(image, layout)
    image = evaluation_crop(image, layout)
    if augmentation.crop == "none":
        return image
    margin = max(1, layout.image_size // 8)
    moves = tf.cast(draws * (2 * margin + 1), tf.int32) - margin
    # Clipped: the rim goes on, so that black ground stays black.
    rows, columns = tf.unstack(
        tf.clip_by_value(
            moves[:, None] + tf.range(layout.image_size), 0, layout.image_size - 1
        )
    )
    return tf.gather(tf.gather(image, rows), columns, axis=1)


@plain
def evaluation_crop(image, layout, exported=False):
    """Returns what evaluation sees of an image, as `layout.preprocessing` says.

    A crop of 0.875 in the middle is the short side resized to image_size / 0.875 and a
    centre crop of image_size, taken in the other order, so that no more than the crop
    is read.

    Args:
        image: Encoded image, or uint8 (height, width, C).
        layout: `Layout` of the batches.
        exported: Whether this is for a file, where there is TensorFlow alone.

    Returns:
        float32 (image_size, image_size, channels), pixels 0 to 255.
    """
    taken = layout.preprocessing
    image = _window(
        image, resizing_tensorflow.window_of(taken), layout.channels, exported
    )
    return _resized(image, layout, taken.interpolation, taken.antialias)


@plain
def evaluation_pixels(image, layout, exported=False):
    """Returns `evaluation_crop` as whole pixels, which is what models are given.

    Args:
        image: As for `evaluation_crop`.
        layout: `Layout` of the batches.
        exported: As for `evaluation_crop`.

    Returns:
        uint8 (image_size, image_size, channels).
    """
    return tf.cast(evaluation_crop(image, layout, exported) + 0.5, tf.uint8)


def pixels_of_file(content, layout):
    """Returns `evaluation_pixels` of one file as a NumPy array.

    Args:
        content: Bytes of the file.
        layout: `Layout`.
    """
    with tf.device("CPU"):
        return evaluation_pixels(tf.constant(content), layout).numpy()


@plain
def decoded(image, channels):
    """Returns a whole image, uint8 (height, width, channels).

    Args:
        image: Encoded image, or uint8 (height, width, C).
        channels: 1 or 3.
    """
    return _window(image, None, channels)


def _inception_window(shape, min_area, pair):
    """Draws a part of the image, as GoogLeNet's training did (arXiv 1409.4842)."""
    begin, size, _ = tf.image.stateless_sample_distorted_bounding_box(
        shape,
        bounding_boxes=tf.zeros((0, 0, 4)),
        seed=pair,
        # The whole image is the only box, so this must not bound the area too.
        min_object_covered=0.0,
        aspect_ratio_range=ASPECT_RATIOS,
        area_range=(min_area, 1.0),
        max_attempts=10,
        use_image_if_no_bounding_boxes=True,
    )
    return tf.concat([begin[:2], size[:2]], 0)


def _window(image, window, channels, exported=False):
    """Returns a part of an image, uint8 (height, width, channels).

    Args:
        image: Encoded image, or uint8 (height, width, C).
        window: Function of the shape (height, width, 3) to (top, left, height,
            width), or None for all of the image.
        channels: 1 or 3.
        exported: As for `evaluation_crop`.
    """
    if image.dtype != tf.string:
        return _with_channels(_cut(image, window), channels)
    orientation = orientation_of(image)
    stored = window and (lambda shape: stored_window(window, shape, orientation))
    part = tf.cond(
        # By content: ImageNet has a PNG whose name ends in .JPEG.
        tf.io.is_jpeg(image),
        lambda: _jpeg_window(image, stored, channels),
        lambda: _with_channels(
            _cut(formats.decoded(image, exported), stored), channels
        ),
    )
    part = tf.cond(orientation == 1, lambda: part, lambda: upright(part, orientation))
    return tf.ensure_shape(part, (None, None, channels))


def _jpeg_window(encoded, window, channels):
    """Returns a part of a JPEG; little more of it is decoded."""
    shape = tf.io.extract_jpeg_shape(encoded)

    def decode(channels):
        # The exact transform is the one that Pillow takes.
        options = {"channels": channels, "dct_method": "INTEGER_ACCURATE"}
        if window is None:
            return tf.io.decode_jpeg(encoded, **options)
        top, left, height, width = tf.unstack(window(shape))
        before = tf.minimum(left, _MARGIN)
        wide = tf.minimum(before + width + _MARGIN, before + shape[1] - left)
        part = tf.stack([top, left - before, height, wide])
        image = tf.io.decode_and_crop_jpeg(encoded, part, **options)
        return image[:, before : before + width]

    if channels == 3:
        return decode(3)
    return tf.cond(
        shape[2] == 1, lambda: decode(1), lambda: _with_channels(decode(3), 1)
    )


def _cut(image, window):
    """Returns a part of a decoded image."""
    if window is None:
        return image
    top, left, height, width = tf.unstack(window(tf.shape(image)))
    return image[top : top + height, left : left + width]


def _with_channels(image, channels):
    """Returns a decoded image as grey or colour."""
    if image.shape[-1] == channels:
        return image
    found = with_channels(tf.cast(image, tf.float32), channels, tf.concat)
    return tf.cast(found, tf.uint8)


def _resized(image, layout, *how):
    """Returns an image as float32 of the right size; `how` as for `resized`."""
    image = resizing_tensorflow.resized(image, layout.image_size, *how)
    return tf.ensure_shape(image, layout.image_shape)
