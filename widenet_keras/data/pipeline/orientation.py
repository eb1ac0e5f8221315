"""The orientation of encoded images, found and undone inside a graph."""

import tensorflow as tf

from widenet_keras.data.orientation import LEFT_RIGHT, SWAPPED, TAG, UP_DOWN

_BIG = (1 << 24, 1 << 16, 1 << 8, 1)
_EXIF = list(b"Exif\0\0")
_PLACES, _MOST = (2, 3, 4, 5, 20, 21), (0xFF, 0xE0, 0, 16, 0xFF, 0xDB)
_ENDLESS = 2**31 - 1


def bytes_at(encoded, at, count):
    """Returns some bytes of a string, int32 (count,); zeros behind its end.

    Args:
        encoded: Scalar string.
        at: Place of the first one, int64.
        count: Number of bytes.
    """
    at = tf.minimum(at, _length(encoded))
    part = tf.strings.substr(encoded, at, count)
    return tf.cast(tf.io.decode_raw(part, tf.uint8, fixed_length=count), tf.int32)


def _length(text):
    """Returns the number of bytes of a string, int64."""
    return tf.cast(tf.strings.length(text), tf.int64)


def orientation_of(encoded):
    """Returns the orientation of an encoded image, 1 to 8; 1 if it says nothing.

    Args:
        encoded: Scalar string: a JPEG, PNG or WebP; all others say nothing.

    Returns:
        Scalar int32.
    """
    head = bytes_at(encoded, tf.constant(0, tf.int64), 22)
    # Most begin so: a JPEG, a JFIF segment, and then a table.
    plain = tf.reduce_all(tf.gather(head, _PLACES) == _MOST)

    def searched():
        found, at, size = tf.case(
            [
                (head[0] == 0xFF, lambda: _segment(encoded)),
                ((head[0] == 0x89) | (head[0] == ord("R")), lambda: _chunk(encoded)),
            ],
            default=lambda: (tf.constant(False), *[tf.constant(0, tf.int64)] * 2),
        )

        def parsed():
            start = tf.minimum(at, _length(encoded))
            return _parsed(tf.strings.substr(encoded, start, tf.maximum(size, 0)))

        return tf.cond(found, parsed, lambda: tf.constant(1))

    return tf.cond(plain, lambda: tf.constant(1), searched)


def _segment(encoded):
    """Returns whether a JPEG has Exif data, their place and their size, int64."""

    def is_exif(head):
        return (head[1] == 0xE1) & tf.reduce_all(head[4:] == _EXIF)

    def goes_on(at, head):
        # Segments of applications and comments, which come before all others.
        passed = (head[1] >= 0xE0) & (head[1] <= 0xEF) | (head[1] == 0xFE)
        return (head[0] == 0xFF) & passed & ~is_exif(head)

    def following(at, head):
        at += tf.cast(2 + 256 * head[2] + head[3], tf.int64)
        return at, bytes_at(encoded, at, 10)

    first = tf.constant(2, tf.int64)
    at, head = tf.while_loop(goes_on, following, (first, bytes_at(encoded, first, 10)))
    return is_exif(head), at + 10, tf.cast(256 * head[2] + head[3] - 8, tf.int64)


def _chunk(encoded):
    """Returns whether a PNG or WebP has Exif data, their place and size, int64."""
    is_png = tf.strings.substr(encoded, 0, 1) == b"\x89"

    def chunk(at):
        """Returns place, name and size of the data of a chunk."""
        head = bytes_at(encoded, at, 8)
        # The size is before the name in one, and behind it, reversed, in the other.
        size, name = (
            tf.where(is_png, one, other)
            for one, other in ((head[:4], head[:3:-1]), (head[4:], head[:4]))
        )
        return at, name, tf.reduce_sum(tf.cast(size, tf.int64) * _BIG)

    def is_exif(name):
        wanted = tf.where(is_png, list(b"eXIf"), list(b"EXIF"))
        return tf.reduce_all(name == wanted)

    def goes_on(at, name, size):
        # In a PNG it stands before the pixels.
        last = tf.reduce_all(name == list(b"IDAT"))
        return (at < _length(encoded)) & ~is_exif(name) & ~last

    def following(at, name, size):
        # Behind the data a checksum, or a byte that makes their number even.
        return chunk(
            at + 8 + size + tf.where(is_png, tf.constant(4, tf.int64), size % 2)
        )

    start = chunk(tf.where(is_png, tf.constant(8, tf.int64), 12))
    at, name, size = tf.while_loop(goes_on, following, start)
    return is_exif(name), at + 8, size


def _parsed(exif):
    """Returns the orientation in Exif data, as `data.orientation.orientation_of`."""
    first = tf.constant(0, tf.int64)
    prefix = tf.reduce_all(bytes_at(exif, first, len(_EXIF)) == _EXIF)
    exif = tf.strings.substr(exif, tf.where(prefix, len(_EXIF), 0), _ENDLESS)
    head = bytes_at(exif, first, 8)
    little = tf.reduce_all(head[:4] == list(b"II*\0"))
    known = little | tf.reduce_all(head[:4] == list(b"MM\0*"))

    def number(parts):
        """Returns whole numbers (...) of bytes (..., count)."""
        parts = tf.cast(parts, tf.int64)
        parts = tf.where(little, parts[..., ::-1], parts)
        return tf.reduce_sum(parts * _BIG[-parts.shape[-1] :], -1)

    start = number(head[4:])
    count = number(bytes_at(exif, start, 2))
    end = _length(exif)
    count = tf.minimum(count, tf.maximum(end - start - 2, 0) // 12)
    part = tf.strings.substr(exif, tf.minimum(start + 2, end), 12 * count)
    entries = tf.cast(tf.io.decode_raw(part, tf.uint8), tf.int32)
    entries = tf.reshape(entries, (-1, 12))
    is_it = (number(entries[:, :2]) == TAG) & (number(entries[:, 2:4]) == 3)
    values = tf.boolean_mask(number(entries[:, 8:10]), is_it)
    value = tf.cast(tf.concat([values, [1]], 0)[0], tf.int32)
    return tf.where(known & (value >= 1) & (value <= 8), value, 1)


def upright(image, orientation):
    """Returns an image as it was seen.

    Args:
        image: (height, width, C) as stored.
        orientation: Scalar int32, 1 to 8.
    """
    seen = tf.cond(
        _is_one(orientation, SWAPPED),
        lambda: tf.transpose(image, (1, 0, 2)),
        lambda: image,
    )
    down, right = (
        tf.where(_is_one(orientation, mirrored), -1, 1)
        for mirrored in (UP_DOWN, LEFT_RIGHT)
    )
    return seen[::down, ::right]


def stored_window(window, shape, orientation):
    """Returns where a part of what was seen is stored.

    Args:
        window: Function of the shape (3,) of the upright image to (top, left, height,
            width), int32 (4,).
        shape: Shape (3,) of the image as stored.
        orientation: Scalar int32, 1 to 8.
    """

    def turned():
        swapped = _is_one(orientation, SWAPPED)
        seen = tf.gather(shape, tf.where(swapped, (1, 0, 2), (0, 1, 2)))
        part = window(seen)
        begin, size = part[:2], part[2:]
        mirrored = [_is_one(orientation, group) for group in (UP_DOWN, LEFT_RIGHT)]
        begin = tf.where(mirrored, seen[:2] - begin - size, begin)
        order = tf.where(swapped, (1, 0, 3, 2), (0, 1, 2, 3))
        return tf.gather(tf.concat([begin, size], 0), order)

    return tf.cond(orientation == 1, lambda: window(shape), turned)


def _is_one(orientation, group):
    """Whether an orientation is one of a group, a scalar bool."""
    return tf.reduce_any(orientation == group)
