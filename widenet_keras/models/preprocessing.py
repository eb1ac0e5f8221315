"""How an image of any size and colour becomes what a model is given."""

import dataclasses
from typing import Literal

from widenet_keras.utils.checks import check_choice, check_flag

CROP_MODES = ("center", "squash")
INTERPOLATIONS = ("bilinear", "bicubic", "lanczos")
# The side of an evaluation crop over the short side of the image.
EVALUATION_CROP = 0.875
# Smaller images are not cropped where nothing says how the model was trained.
SMALLEST_CROPPED = 64
_SCALE = "pixels / 127.5 - 1"
# Of ITU-R BT.601 in 65536ths, as Pillow takes them; grey stays the grey it is.
_GREY_WEIGHTS = (19595, 38470, 7471)


def scaled(pixels):
    """Returns pixels 0..255 in [-1, 1], the only scale there is.

    Args:
        pixels: Array or tensor of floats, any shape.
    """
    return pixels / 127.5 - 1.0


def unscaled(images):
    """Returns pixels 0..255, not rounded; undoes `scaled`."""
    return (images + 1.0) * 127.5


def with_channels(pixels, channels, concatenate):
    """Returns images with another number of channels: as grey, or grey in colour.

    Args:
        pixels: Array or tensor (..., C) of whole pixels 0 to 255, float32.
        channels: 1 or 3 if it is not C.
        concatenate: Function of such arrays and an axis.

    Returns:
        float32 (..., channels), whole pixels.
    """
    if pixels.shape[-1] == channels:
        return pixels
    if channels == 3:
        return concatenate([pixels] * 3, -1)
    red, green, blue = (
        pixels[..., each : each + 1] * weight
        for each, weight in enumerate(_GREY_WEIGHTS)
    )
    # All sums of whole pixels are below 2^24, so nothing is lost.
    return (red + green + blue + 32768.0) // 65536.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """The geometry of evaluation, prediction and exports; names are timm's.

    Pixels are whole after they are resized, and scaled to [-1, 1].

    Attributes:
        crop_mode: "center" takes the square in the middle of an image; "squash" takes
            all of it and resizes it to a square, whatever its shape.
        crop_pct: Side of that square over the short side of the image; 1.0 for
            "squash".
        interpolation: "bilinear", "bicubic" or "lanczos".
        antialias: Whether a smaller image averages all pixels that become one, as
            Pillow does, by which timm and Hugging Face resize.

    Raises:
        ValueError: If a field is out of range; one line says what is allowed.
    """

    crop_mode: Literal["center", "squash"] = "center"
    crop_pct: float = EVALUATION_CROP
    interpolation: Literal["bilinear", "bicubic", "lanczos"] = "bilinear"
    antialias: bool = False

    def __post_init__(self):
        check_choice("Preprocessing", "crop_mode", self.crop_mode, CROP_MODES)
        check_choice(
            "Preprocessing", "interpolation", self.interpolation, INTERPOLATIONS
        )
        check_flag("Preprocessing", "antialias", self.antialias)
        number = isinstance(self.crop_pct, int | float)
        if not number or not 0 < self.crop_pct <= 1:
            raise ValueError(
                f"Preprocessing: crop_pct={self.crop_pct!r} must be a number above 0 "
                "and at most 1."
            )
        if self.crop_mode == "squash" and self.crop_pct != 1:
            raise ValueError(
                f"Preprocessing: crop_mode='squash' takes the whole image and crop_pct="
                f"{self.crop_pct!r} a part; give crop_pct=1.0, or crop_mode='center'."
            )

    def window(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Returns (top, left, height, width) of the part of an image that is taken."""
        if self.crop_mode == "squash":
            return 0, 0, height, width
        side = max(1, round(self.crop_pct * min(height, width)))
        return (height - side) // 2, (width - side) // 2, side, side

    def cut(self, images):
        """Returns the part that is taken of images (..., height, width, C)."""
        top, left, height, width = self.window(*images.shape[-3:-1])
        return images[..., top : top + height, left : left + width, :]

    def in_words(self, image_size: int) -> str:
        """Returns one line that says what is done to an image.

        Args:
            image_size: Side of the images that the model takes, pixels.
        """
        part = "the whole image, whatever its shape"
        if self.crop_mode == "center":
            part = "the square in the middle"
            if self.crop_pct < 1:
                part += f", {self.crop_pct:g} of the short side"
        how = f"{self.interpolation}{', antialiased' if self.antialias else ''}"
        return f"{part}; resized to {image_size}x{image_size} ({how}); {_SCALE}"

    def to_dict(self) -> dict:
        """Returns what a manifest says, a dict that JSON can hold."""
        return {
            "crop": self.crop_pct,
            "crop_mode": self.crop_mode,
            "resize": self.interpolation,
            "antialias": self.antialias,
            "scale": _SCALE,
        }

    @classmethod
    def from_dict(cls, entries: dict) -> "Preprocessing":
        """Returns what `to_dict`, or a manifest of an earlier version, says.

        Args:
            entries: Dict; before there was a "crop_mode", images were squashed where
                "crop" was 1, and before there was "antialias" none was.
        """
        crop = entries["crop"]
        mode = entries.get("crop_mode", "squash" if crop == 1 else "center")
        return cls(
            crop_mode=mode,
            crop_pct=crop,
            interpolation=entries.get("resize", "bilinear"),
            antialias=entries.get("antialias", False),
        )


def checked_preprocessing(owner: str, given) -> Preprocessing | None:
    """Returns a `Preprocessing` that was given as one, as its dict, or as None.

    Args:
        owner: Who asks, for the message.
        given: What was given.

    Raises:
        ValueError: If it is something else.
    """
    if isinstance(given, dict) and "crop" in given:
        return Preprocessing.from_dict(given)
    if given is None or isinstance(given, Preprocessing):
        return given
    raise ValueError(
        f"{owner}: preprocessing={given!r} says no geometry; give a Preprocessing(), "
        "such as another model's, or what its to_dict() returns."
    )


def usual_preprocessing(image_size: int) -> Preprocessing:
    """Returns the geometry of a model of which nobody said how it was trained.

    Args:
        image_size: Side of the images, pixels.
    """
    if image_size < SMALLEST_CROPPED:
        return Preprocessing(crop_mode="squash", crop_pct=1.0)
    return Preprocessing()
