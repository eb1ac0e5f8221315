"""How the images of a model were prepared, by its companion files or its family."""

from typing import NamedTuple

from widenet_keras.models.preprocessing import INTERPOLATIONS
from widenet_keras.utils.printable import printable

HALF = (0.5,) * 3
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CLIP = (
    (0.48145466, 0.4578275, 0.40821073),
    (0.26862954, 0.26130258, 0.27577711),
)
# Numbers that Pillow gives to its filters.
_SIDES = {"shortest_edge", "height", "width"}
_PILLOW = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box"}


class Prepared(NamedTuple):
    """What is done to an image.

    Attributes:
        mean: Per channel, of pixels / 255.
        std: Per channel, of pixels / 255.
        geometry: Dict of crop_mode, crop_pct, interpolation and antialias.
        unknown: Short phrases: what has no form here, or was assumed.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    geometry: dict
    unknown: tuple[str, ...] = ()


def prepared(
    mean=HALF,
    std=HALF,
    crop_mode="center",
    crop_pct=1.0,
    interpolation="bicubic",
    antialias=True,
    unknown=(),
) -> Prepared:
    """Returns a `Prepared` whose geometry has a form here.

    Args:
        mean: Per channel, of pixels / 255.
        std: Per channel, of pixels / 255.
        crop_mode: "center" or "squash"; if cropped, "center".
        crop_pct: Side of the crop over the short side.
        interpolation: Name as timm or Pillow has it.
        antialias: Whether a smaller image is an average over pixels.
        unknown: Phrases to which those on what has no form are added.
    """
    unknown = tuple(unknown)
    if crop_mode == "squash" and crop_pct < 1:
        crop_mode = "center"
        unknown += (f"images are not squashed before the crop of {crop_pct:g}",)
    # KerasHub names the width of the filter.
    interpolation = str(interpolation).lower().removesuffix("3")
    if interpolation not in INTERPOLATIONS:
        unknown += (f"bicubic for {printable(interpolation)} interpolation",)
        interpolation = "bicubic"
    geometry = {
        "crop_mode": crop_mode,
        "crop_pct": float(min(crop_pct, 1.0)),
        "interpolation": interpolation,
        "antialias": bool(antialias),
    }
    return Prepared(tuple(mean), tuple(std), geometry, unknown)


def by_timm(config: dict, mean_std: tuple) -> Prepared:
    """Returns what a `pretrained_cfg` of timm says.

    Args:
        config: That dict, or an empty one.
        mean_std: Where it does not say them.
    """
    usual = dict(zip(("mean", "std"), mean_std, strict=True))
    usual |= {"crop_pct": 0.875, "interpolation": "bicubic"}
    chosen = {name: config.get(name) or value for name, value in usual.items()}
    phrases = {name: f"{name} {value}" for name, value in usual.items()}
    # Six numbers are too many for the line that has these.
    phrases |= {"mean": "mean", "std": "std"}
    unknown = tuple(
        f"{phrases[name]} by the library" for name in usual if not config.get(name)
    )
    mode = config.get("crop_mode") or "center"
    if mode == "border":
        mode, unknown = "center", (*unknown, "no border around small images")
    return prepared(
        **chosen,
        crop_mode="squash" if mode == "squash" else "center",
        unknown=unknown,
    )


def by_transformers(
    config: dict, defaults: Prepared, squashes: bool, image_size: int | None = None
) -> Prepared:
    """Returns what a preprocessor_config.json of transformers says.

    Args:
        config: That dict, or an empty one.
        defaults: Of the family.
        squashes: Whether a size that is a plain number means a squashed square.
        image_size: Side of the model's images, if its configuration tells it.
    """
    if not config:
        phrase = "preprocessing by the library"
        return defaults._replace(unknown=(*defaults.unknown, phrase))
    mean = _numbers(config.get("image_mean"), defaults.mean)
    std = _numbers(config.get("image_std"), defaults.std)
    if config.get("do_normalize") is False:
        mean, std = (0.0,) * len(mean), (1.0,) * len(std)
    rescales = config.get("do_rescale") is not False
    factor = (config.get("rescale_factor") or 1 / 255) if rescales else 1.0
    # Theirs is (pixel factor - mean) / std, ours (pixel / 255 - mean) / std.
    scale = 1.0 if abs(255 * factor - 1) < 1e-9 else 255 * factor
    mean = tuple(each / scale for each in mean)
    std = tuple(each / scale for each in std)
    size, crop, unknown = config.get("size"), config.get("crop_size"), ()
    if isinstance(size, dict) and not size.keys() & _SIDES:
        unknown += (f"no size by {' and '.join(map(str, size))}, but that of its kind",)
        size = None
    if config.get("do_resize") is False:
        unknown += ("that images are resized, which its library leaves to its user",)
    short = _side(size, "shortest_edge")
    squashed = short is None and (isinstance(size, dict) or squashes)
    before = short or _side(size, "height") or _side(size, "width")
    after = _side(crop, "height") or before
    cropped = config.get("do_center_crop", bool(crop) or not squashed)
    pct = after / before if cropped and before and after else 1.0
    side = after if cropped else before
    if isinstance(image_size, int) and isinstance(side, int) and side != image_size:
        unknown += (f"image_size {image_size}, where its preprocessor gives {side}",)
    if size is None:
        geometry = defaults.geometry
        squashed, pct = geometry["crop_mode"] == "squash", geometry["crop_pct"]
    resample = config.get("resample")
    return prepared(
        mean,
        std,
        crop_mode="squash" if squashed else "center",
        crop_pct=pct,
        interpolation=defaults.geometry["interpolation"]
        if resample is None
        else _PILLOW.get(resample, resample),
        unknown=unknown,
    )


def by_keras_hub(config: dict) -> Prepared:
    """Returns what an image_converter.json of KerasHub says.

    Args:
        config: Its "config", or an empty dict.
    """
    if not config:
        return prepared(
            interpolation="bilinear",
            antialias=False,
            unknown=("preprocessing by the library",),
        )
    scale = _numbers(config.get("scale"), (1.0,))
    offset = _numbers(config.get("offset"), (0.0,))
    std = tuple(1 / (255 * each) if each else 0.0 for each in scale)
    unknown = ("no padding to a square",) if config.get("pad_to_aspect_ratio") else ()
    crops = config.get("crop_to_aspect_ratio", True)
    return prepared(
        tuple(-o * s for o, s in zip(*_as_long(offset, std), strict=True)),
        std,
        crop_mode="center" if crops or unknown else "squash",
        interpolation=config.get("interpolation") or "bilinear",
        antialias=config.get("antialias", False),
        unknown=unknown,
    )


def by_open_clip(config: dict, defaults: Prepared) -> Prepared:
    """Returns what the `preprocess_cfg` of an open_clip_config.json says.

    Args:
        config: That dict, or an empty one.
        defaults: Of the family.
    """
    mode = config.get("resize_mode")
    unknown = ("no padding to a square",) if mode == "longest" else ()
    squash = defaults.geometry["crop_mode"] == "squash" if mode is None else False
    return prepared(
        _numbers(config.get("mean"), defaults.mean),
        _numbers(config.get("std"), defaults.std),
        crop_mode="squash" if squash or mode == "squash" else "center",
        interpolation=config.get("interpolation") or "bicubic",
        unknown=unknown if config else ("preprocessing by the library",),
    )


def per_channel(values, channels: int, what: str, origin: str) -> tuple[float, ...]:
    """Returns one finite number for each channel.

    Args:
        values: A number, or as many as channels, or equal ones.
        channels: Channels of the images.
        what: "mean" or "std".
        origin: What messages call the source.

    Raises:
        ValueError: If it is something else, or a std is not above 0.
    """
    numbers = _numbers(values, ())
    if len(numbers) != channels and len(set(numbers)) == 1:
        numbers = numbers[:1] * channels
    low = 0 if what == "std" else -float("inf")
    if len(numbers) != channels or not all(low < n < float("inf") for n in numbers):
        raise ValueError(
            f"{origin}: {what}={printable(values)} must be {channels} finite numbers"
            f"{' above 0' if what == 'std' else ''}, of pixels / 255; give {what}=."
        )
    return numbers


def _numbers(values, otherwise):
    """Returns a tuple of floats from a number or a sequence."""
    if values is None:
        return otherwise
    try:
        one = isinstance(values, int | float)
        return (float(values),) if one else tuple(map(float, values))
    except (TypeError, ValueError, OverflowError):
        # `per_channel` says what is wrong.
        return (float("nan"),)


def _as_long(first, second):
    """Returns two tuples, the shorter one's only number repeated."""
    longest = max(len(first), len(second))
    if {len(first), len(second)} - {1, longest}:
        # Of no channels; who checks them says so.
        return (float("nan"),), (float("nan"),)
    return tuple(v * longest if len(v) == 1 else v for v in (first, second))


def _side(size, key):
    """Returns a side of `size`, a dict or a number for all sides, or None."""
    if isinstance(size, dict):
        return size.get(key)
    return size if key != "shortest_edge" else None
