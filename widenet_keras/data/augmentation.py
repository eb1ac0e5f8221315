"""What is done to training images: one frozen dataclass that checks itself."""

import dataclasses
from typing import Literal

from widenet_keras.models.preprocessing import (
    EVALUATION_CROP,
    SMALLEST_CROPPED,
    Preprocessing,
)
from widenet_keras.utils.checks import check_choice, check_flag, check_number

OWNER = "Augmentation"
CROPS = ("inception", "pad", "none")
RANDAUGMENTS = ("widenet", "keras_cv")
LARGEST_MAGNITUDE = 30.0
MOST_OPERATIONS = 8
# GoogLeNet's training crops (arXiv 1409.4842): width over height.
ASPECT_RATIOS = (3 / 4, 4 / 3)
# Random Erasing (arXiv 1708.04896): part of the area, and ratio of the sides.
ERASED_AREA = (0.02, 1 / 3)
ERASED_RATIO = 3.3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Augmentation:
    """What is done to training images and their labels.

    The defaults are the paper's for ImageNet. An image is cropped, flipped and
    changed by RandAugment; then a part of it may be erased and it may be mixed with
    its neighbour in the batch.

    Raises:
        ValueError: If a field is out of range; one line says what is allowed.
    """

    crop: Literal["inception", "pad", "none"] = "inception"
    """inception: a random part, resized; pad: the image, moved by up to an eighth
    of its side, with its rim continued; none: the image, resized."""
    min_area: float = 0.05
    """Smallest part of the image's area that an inception crop takes."""
    flip: bool = True
    """Mirror half of the images, drawn at random."""
    randaugment_ops: int = 2
    """RandAugment: operations per image; 0 turns it off."""
    randaugment_magnitude: float = 15.0
    """RandAugment: strength from 0, which turns it off, to 30."""
    randaugment: Literal["widenet", "keras_cv"] = "widenet"
    """RandAugment: what computes it; both give the same images, keras_cv slower."""
    mixup: float = 0.5
    """Alpha of mixup; 0 turns it off."""
    cutmix: float = 0.0
    """Alpha of cutmix; with mixup on as well, each batch draws one of the two."""
    erasing: float = 0.0
    """Probability that a rectangle of an image is erased."""
    smoothing: float = 0.1
    """Label smoothing."""

    def __post_init__(self):
        check_choice(OWNER, "crop", self.crop, CROPS)
        check_choice(OWNER, "randaugment", self.randaugment, RANDAUGMENTS)
        check_flag(OWNER, "flip", self.flip)
        for field in ["mixup", "cutmix"]:
            check_number(OWNER, field, getattr(self, field), 0.0)
        check_number(OWNER, "smoothing", self.smoothing, 0.0, below=1.0)
        _check_up_to("min_area", self.min_area, 1.0, positive=True)
        _check_up_to("erasing", self.erasing, 1.0)
        _check_up_to(
            "randaugment_magnitude", self.randaugment_magnitude, LARGEST_MAGNITUDE
        )
        ops = self.randaugment_ops
        if (
            isinstance(ops, bool)
            or not isinstance(ops, int)
            or not (0 <= ops <= MOST_OPERATIONS)
        ):
            raise ValueError(
                f"{OWNER}: randaugment_ops={ops!r} must be a whole number from 0 to "
                f"{MOST_OPERATIONS}."
            )

    def preprocessing(self, image_size: int) -> Preprocessing:
        """Returns what evaluation takes of an image, to see what training sees.

        Inception crops keep the shape of things, so that evaluation takes a square in
        the middle; "pad" and "none" resize the whole image to a square.

        Args:
            image_size: Side of the images, pixels; small ones are not cropped.
        """
        if self.crop != "inception":
            return Preprocessing(crop_mode="squash", crop_pct=1.0)
        cropped = image_size >= SMALLEST_CROPPED
        return Preprocessing(crop_pct=EVALUATION_CROP if cropped else 1.0)

    @property
    def level(self) -> float:
        """Strength of RandAugment from 0 to 1."""
        return self.randaugment_magnitude / LARGEST_MAGNITUDE

    @property
    def operations(self) -> int:
        """Operations of RandAugment per image, 0 where it is off."""
        return self.randaugment_ops if self.randaugment_magnitude > 0 else 0


def _check_up_to(field, value, most, positive=False):
    """Raises `ValueError` unless `value` is a number from 0 to `most`."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    # Written so that NaN fails as well.
    if not (number and 0 <= value <= most) or (positive and value == 0):
        limit = (
            f"a number above 0 and at most {most}"
            if positive
            else (f"a number from 0 to {most}")
        )
        raise ValueError(f"{OWNER}: {field}={value!r} must be {limit}.")
