"""How the camera was held: the orientation in the Exif data of an image."""

import struct

import numpy as np

TAG = 0x0112
_SHORT = 3
_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}
# Of the orientations 1 to 8: exchange rows and columns, then mirror.
SWAPPED = (5, 6, 7, 8)
LEFT_RIGHT = (2, 3, 6, 7)
UP_DOWN = (3, 4, 7, 8)


def orientation_of(exif: bytes) -> int:
    """Returns the orientation in Exif data, 1 to 8; 1 where it has none.

    Args:
        exif: The data, bytes, with or without "Exif" in front.
    """
    tiff = exif.removeprefix(b"Exif\0\0")
    order = _ORDERS.get(tiff[:4])
    if order is None or len(tiff) < 8:
        return 1
    [start] = struct.unpack_from(order + "I", tiff, 4)
    entries = tiff[start + 2 :]
    count = len(entries) // 12
    if count:
        count = min(count, *struct.unpack_from(order + "H", tiff, start))
    for number in range(count):
        tag, kind, _, value = struct.unpack_from(order + "HHIH", entries, 12 * number)
        if (tag, kind) == (TAG, _SHORT):
            return value if 1 <= value <= 8 else 1
    return 1


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Returns an image as it was seen.

    Args:
        pixels: (height, width, C) as stored.
        orientation: 1 to 8.
    """
    if orientation in SWAPPED:
        pixels = pixels.swapaxes(0, 1)
    if orientation in LEFT_RIGHT:
        pixels = pixels[:, ::-1]
    if orientation in UP_DOWN:
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)
