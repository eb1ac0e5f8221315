"""The orientation of encoded images, found and undone inside a graph."""

import tensorflow as tf

from widenet_keras.data.orientation import LEFT_RIGHT, SWAPPED, TAG, UP_DOWN

_BIG = (1 << 24, 1 << 16, 1 << 8, 1)
_EXIF = list(b"Exif\0\0")
_PLACES, _MOST = (0, 1, 2, 3, 18, 19), (0xFF, 0xE0, 0, 16, 0xFF, 0xDB)
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


def jpeg_orientation(encoded):
    """Returns the orientation of a JPEG, 1 to 8; 1 if it says nothing.

    Args:
        encoded: Scalar string, a JPEG.

    Returns:
        Scalar int32.
    """
    first = tf.constant(2, tf.int64)
    head = bytes_at(encoded, first, 20)
    # Most begin so: a JFIF segment, and then a table.
    plain = tf.reduce_all(tf.gather(head, _PLACES) == _MOST)
    return tf.cond(
        plain, lambda: tf.constant(1), lambda: _searched(encoded, first, head[:10])
    )


def _searched(encoded, first, head):
    """Returns the orientation of a JPEG whose first segment is at a place."""

    def is_exif(head):
        return (head[1] == 0xE1) & tf.reduce_all(head[4:] == _EXIF)

    def goes_on(at, head):
        # Segments of applications and comments, which come before all others.
        passed = (head[1] >= 0xE0) & (head[1] <= 0xEF) | (head[1] == 0xFE)
        return (head[0] == 0xFF) & passed & ~is_exif(head)

    def following(at, head):
        at += tf.cast(2 + 256 * head[2] + head[3], tf.int64)
        return at, bytes_at(encoded, at, 10)

    at, head = tf.while_loop(goes_on, following, (first, head))
    size = 256 * head[2] + head[3] - 8
    return _orientation_at(encoded, is_exif(head), at + 10, size)


def png_orientation(encoded):
    """Returns the orientation of a PNG, as `jpeg_orientation`."""
    return _orientation_in_chunks(encoded, 8, b"eXIf", b"IDAT", name=4, size=0)


def webp_orientation(encoded):
    """Returns the orientation of a WebP, as `jpeg_orientation`."""
    return _orientation_in_chunks(encoded, 12, b"EXIF", b"", name=0, size=4)


def _orientation_in_chunks(encoded, first, wanted, last, name, size):
    """Returns the orientation in a chunk of a file that is a row of chunks.

    Args:
        encoded: Scalar string.
        first: Place of the first chunk.
        wanted: Name of the chunk with the Exif data.
        last: Name of the chunk at which to stop, or b"".
        name: Place of the name in a chunk.
        size: Place of the size of its data, 4 bytes; big endian if it comes first.
    """
    order = _BIG if size < name else _BIG[::-1]

    def length(head):
        return tf.reduce_sum(tf.cast(head[size : size + 4], tf.int64) * order)

    def is_named(head, text):
        return tf.reduce_all(head[name : name + 4] == list(text))

    def goes_on(at, head):
        end = _length(encoded)
        stop = is_named(head, last) if last else False
        return (at < end) & ~is_named(head, wanted) & ~tf.convert_to_tensor(stop)

    def following(at, head):
        # Behind the data a checksum, or a byte that makes their number even.
        rest = 4 if size < name else length(head) % 2
        at += 8 + length(head) + rest
        return at, bytes_at(encoded, at, 8)

    first = tf.constant(first, tf.int64)
    at, head = tf.while_loop(goes_on, following, (first, bytes_at(encoded, first, 8)))
    return _orientation_at(encoded, is_named(head, wanted), at + 8, length(head))


def _orientation_at(encoded, found, at, size):
    """Returns the orientation in the Exif data at a place, 1 if none were found."""

    def parsed():
        start = tf.minimum(at, _length(encoded))
        part = tf.strings.substr(encoded, start, tf.maximum(tf.cast(size, tf.int64), 0))
        return _orientation_of(part)

    return tf.cond(found, parsed, lambda: tf.constant(1))


def _orientation_of(exif):
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


def is_swapped(orientation):
    """Whether rows are stored as columns, a scalar bool."""
    return tf.reduce_any(orientation == SWAPPED)


def upright(image, orientation):
    """Returns an image as it was seen.

    Args:
        image: (height, width, C) as stored.
        orientation: Scalar int32, 1 to 8.
    """
    seen = tf.cond(
        is_swapped(orientation), lambda: tf.transpose(image, (1, 0, 2)), lambda: image
    )
    down, right = _steps(orientation)
    return seen[::down, ::right]


def stored_window(window, shape, orientation):
    """Returns where a part of what was seen is stored.

    Args:
        window: (4,) int32: top, left, height, width in the upright image.
        shape: (height, width) of the upright image.
        orientation: Scalar int32, 1 to 8.
    """
    begin, size = window[:2], window[2:]
    mirrored = tf.stack(_steps(orientation)) < 0
    begin = tf.where(mirrored, shape - begin - size, begin)
    return tf.cond(
        is_swapped(orientation),
        lambda: tf.concat([begin[::-1], size[::-1]], 0),
        lambda: tf.concat([begin, size], 0),
    )


def _steps(orientation):
    """Returns the steps, 1 or -1, from row to row and from column to column."""
    return [
        tf.where(tf.reduce_any(orientation == mirrored), -1, 1)
        for mirrored in (UP_DOWN, LEFT_RIGHT)
    ]
