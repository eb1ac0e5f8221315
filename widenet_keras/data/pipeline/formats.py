"""Encoded images that are no JPEGs, told apart by what is in them."""

import tensorflow as tf

from widenet_keras.data import pillow_images
from widenet_keras.data.colours import GROUND
from widenet_keras.data.pipeline.orientation import bytes_at

_PNG = b"\x89PNG\r\n\x1a\n"
_GIF, _EXTENSION, _CONTROL, _FRAME = b"GIF8", 0x21, 0xF9, 0x2C
# In the flags of a WebP: it moves.
_MOVES = 0x02


def decoded(encoded, exported):
    """Returns an image that is no JPEG as stored: on white, the first of several.

    TensorFlow decodes what it decodes right; Pillow the rest, such as BMPs with a
    palette, GIFs with transparent parts, and WebPs that move.

    Args:
        encoded: Scalar string.
        exported: Whether this is for a file, where there is TensorFlow alone; the
            rest is refused then.

    Returns:
        uint8 (height, width, 3).
    """
    head = tf.strings.join([tf.strings.substr(encoded, 0, 40), b"\0" * 40])
    cases = [
        (_has(head, 0, _PNG), lambda: _png(encoded, head)),
        (_is_plain_bmp(head), lambda: tf.image.decode_bmp(encoded)[..., :3]),
        (_is_plain_gif(encoded, head), lambda: tf.io.decode_gif(encoded)[0]),
    ]
    if hasattr(tf.io, "decode_webp"):
        cases.append((_is_still_webp(head), lambda: _webp(encoded)))
    rest = _refused if exported else _by_pillow
    image = tf.case(cases, default=lambda: rest(encoded))
    return tf.ensure_shape(image, (None, None, 3))


def on_ground(image):
    """Returns an image (height, width, 4) without its transparency, uint8."""
    alpha = tf.cast(image[..., 3:], tf.int32)
    seen = tf.cast(image[..., :3], tf.int32) * alpha + GROUND * (255 - alpha)
    return tf.cast((seen + 127) // 255, tf.uint8)


def _png(encoded, head):
    """Decodes a PNG."""
    depth = _byte(head, 24)
    image = tf.io.decode_png(encoded, channels=4)
    alpha = tf.cast(image[..., 3], tf.int32)
    # What is added to less than 8 bits is full in these.
    full = tf.bitwise.left_shift(1, tf.minimum(depth, 8)) - 1
    opaque = tf.reduce_all((alpha == 255) | (alpha == full) & (depth < 8))
    image = tf.cond(opaque, lambda: image[..., :3], lambda: on_ground(image))
    return image


def _webp(encoded):
    """Decodes a WebP that does not move."""
    image = tf.io.decode_webp(encoded)
    image = tf.reshape(image, tf.shape(image)[-3:])
    image = tf.cond(
        tf.shape(image)[-1] == 4, lambda: on_ground(image), lambda: image[..., :3]
    )
    return image


def _by_pillow(encoded):
    """Decodes what TensorFlow does not."""
    # Not `tf.numpy_function`, whose bytes lose zeros at their end.
    return tf.py_function(
        lambda content: pillow_images.stored(content.numpy()), [encoded], tf.uint8
    )


def _refused(encoded):
    """Refuses what TensorFlow does not decode right."""
    message = (
        "the image is a moving, transparent or palette one that TensorFlow does not "
        "read, or none; send a JPEG or a PNG"
    )
    with tf.control_dependencies([tf.debugging.Assert(False, [message])]):
        return tf.zeros((1, 1, 3), tf.uint8)


def _has(head, at, text):
    """Whether some bytes stand at a place of the first ones, a scalar bool."""
    return tf.strings.substr(head, at, len(text)) == text


def _byte(head, at):
    """Returns one of the first bytes, a scalar int32."""
    byte = tf.io.decode_raw(tf.strings.substr(head, at, 1), tf.uint8)
    return tf.cast(byte[0], tf.int32)


def _is_plain_bmp(head):
    """Whether it is a BMP of 24 or 32 bits as Windows writes them."""
    # Size of the header; planes and bits; no compression.
    return (
        _has(head, 0, b"BM")
        & _has(head, 14, b"(\0\0\0")
        & (_has(head, 26, b"\1\0\x18\0") | _has(head, 26, b"\1\0\x20\0"))
        & _has(head, 30, b"\0\0\0\0")
    )


def _is_still_webp(head):
    """Whether it is a WebP of one picture."""
    extended = _has(head, 12, b"VP8X")
    moves = extended & (tf.bitwise.bitwise_and(_byte(head, 20), _MOVES) > 0)
    return _has(head, 0, b"RIFF") & _has(head, 8, b"WEBP") & ~moves


def _is_plain_gif(encoded, head):
    """Whether it is a GIF whose first frame fills it and hides nothing."""
    is_gif = _has(head, 0, _GIF)

    def goes_on(at, part, inside, hides):
        return is_gif & (inside | (part[0] == _EXTENSION))

    def following(at, part, inside, hides):
        control = ~inside & (part[1] == _CONTROL)
        hides = tf.where(control, part[3] % 2 > 0, hides)
        # An extension is its kind and blocks, of which an empty one is the last.
        step = tf.where(inside, 1 + part[0], tf.where(control, 8, 2))
        inside = ~control & (~inside | (part[0] > 0))
        at += tf.cast(step, tf.int64)
        return at, bytes_at(encoded, at, 9), inside, hides

    flags = _byte(head, 10)
    colours = tf.bitwise.left_shift(6, tf.bitwise.bitwise_and(flags, 7))
    at = 13 + tf.cast(tf.where(flags >= 128, colours, 0), tf.int64)
    start = (at, bytes_at(encoded, at, 9), tf.constant(False), tf.constant(False))
    _, part, _, hides = tf.while_loop(goes_on, following, start)
    screen = tf.io.decode_raw(tf.strings.substr(head, 6, 4), tf.uint8)
    whole = tf.concat([[_FRAME, 0, 0, 0, 0], tf.cast(screen, tf.int32)], 0)
    return is_gif & tf.reduce_all(part == whole) & ~hides
