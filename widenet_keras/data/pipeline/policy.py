"""RandAugment's operations and how strong each is at a level.

From "RandAugment: Practical automated data augmentation with a reduced search space"
(arXiv 1909.13719), with the ranges of AutoAugment's search; what an operation does to
a pixel is as in keras-cv, so brightness is added and contrast is about the mean of a
channel.
"""

import math

OPERATIONS = (
    "identity",
    "auto_contrast",
    "equalize",
    "rotate",
    "solarize",
    "color",
    "posterize",
    "contrast",
    "brightness",
    "sharpness",
    "shear_x",
    "shear_y",
    "translate_x",
    "translate_y",
)
# What fills the places that an image leaves when it moves.
GREY = 128

_ANGLE = math.radians(30)
_CHANGE = 0.9
_SHEAR = 0.3
_SHIFT = 0.45


def amount(operation, level, sign):
    """Returns the parameter of an operation.

    Args:
        operation: Name of the operation.
        level: Strength from 0 to 1, a Python number.
        sign: -1 or 1, a number or tensor, for operations with two directions.

    Returns:
        rotate: angle, radians; solarize: pixels from this value on are inverted;
        posterize: bits that are kept; brightness: what is added, pixel values;
        color, contrast and sharpness: factor, 1 changes nothing; shear: pixels per
        pixel; translate: part of the side; None for the others.
    """
    if operation == "rotate":
        return sign * (_ANGLE * level)
    if operation == "solarize":
        return round(256 * (1 - level))
    if operation == "posterize":
        return 8 - round(4 * level)
    if operation == "brightness":
        # As much as the factor 1 +- 0.9 changes the middle of the range.
        return sign * (255 * _CHANGE / 2 * level)
    if operation in ("color", "contrast", "sharpness"):
        return 1 + sign * (_CHANGE * level)
    if operation in ("shear_x", "shear_y"):
        return sign * (_SHEAR * level)
    if operation in ("translate_x", "translate_y"):
        return sign * (_SHIFT * level)
    return None
