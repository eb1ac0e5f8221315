"""From the tensors of another library to the fields and arrays of a WideNet."""

from typing import NamedTuple

import numpy as np

from widenet_keras.conversions import (
    folding,
    google,
    hugging_face,
    hugging_face_config,
    hugging_face_towers,
    keras_hub,
    names,
    open_clip,
    sizes,
    timm,
)
from widenet_keras.conversions.parts import Parts
from widenet_keras.conversions.preprocessing_of import per_channel
from widenet_keras.conversions.tensors import Tensors
from widenet_keras.utils.printable import printable

ACTIVATIONS = ("gelu", "gelu_tanh", "quick_gelu", "silu", "relu")


class Found(NamedTuple):
    """A network of another library, as a WideNet has it.

    Attributes:
        family: Whose file it is, in words.
        fields: Dict of fields of `WideNetConfig`.
        arrays: Dict of arrays by the paths of a WideNet's weights, the steps' norms
            stacked (L, D); float64 where the source is, else float32.
        preprocessing: Dict of crop_mode, crop_pct, interpolation and antialias.
        class_names: Tuple of names, or None.
        unknown: Short phrases: what the source does not tell and was assumed.
    """

    family: str
    fields: dict
    arrays: dict[str, np.ndarray]
    preprocessing: dict
    class_names: tuple[str, ...] | None
    unknown: tuple[str, ...]


def found_in(
    arrays: dict[str, np.ndarray],
    companions: dict[str, dict],
    origin: str,
    *,
    attributes: dict[str, str] | None = None,
    heads: int | None = None,
    **fields: object,
) -> Found:
    """Returns what the tensors of another library are here.

    Args:
        arrays: Dict by the names of the file.
        companions: Dict of the JSON files beside it, by their file names.
        origin: What messages call the source.
        attributes: Dict of the names of the groups "vars" of an HDF5 file, by path.
        heads: Number of heads, where nothing else tells it or it is told wrongly.
        **fields: Fields of `WideNetConfig` that win over what was assumed, and `mean`
            and `std` of the images of the source, per channel of pixels / 255.

    Raises:
        ValueError: If the file is of no supported kind, or its first tensor that does
            not fit; one line.
    """
    origin = printable(origin)
    family, tensors = names.family_of(names.unwrapped(arrays), origin)
    try:
        parts, told, ignored = _read(family, tensors, companions, attributes or {})
    except (
        TypeError,
        AttributeError,
        KeyError,
        IndexError,
        ArithmeticError,
    ) as error:
        if not companions:
            raise
        raise ValueError(
            f"{origin}: a JSON file beside it "
            f"({', '.join(map(printable, companions))}) does not hold "
            f"what files of {family} hold ({printable(error)})."
        ) from error
    tensors.check_all_used(ignored)
    table, registers, side = sizes.embedded(parts, origin)
    known = sizes.fields_of(parts, side, len(registers))
    said, left_out = sizes.sizes_told(told.sizes, known)
    sizes.check_sizes(
        said, known, f"{origin}: its config", "give both files of one model."
    )
    user = dict(fields)
    images = {
        name: per_channel(
            user.pop(name, getattr(told, name)), known["channels"], name, origin
        )
        for name in ("mean", "std")
    }
    sizes.check_sizes(user, known, origin, "leave it out.")
    heads, assumed = sizes.heads_of(parts, told, heads, origin)
    guessed = {
        "activation": told.activation,
        "norm_epsilon": told.norm_epsilon,
        "pooling": parts.pooling,
        "dropout": 0.0,
    }
    chosen = {**known, **guessed, **user, "heads": heads}
    if chosen["activation"] is None:
        raise ValueError(
            f"{origin}: neither its tensors nor a JSON file beside it tell an "
            f"activation of these; give activation=, one of {', '.join(ACTIVATIONS)}, "
            "if it is one."
        )
    parts = parts._replace(patch=folding.pixels_folded(parts.patch, **images))
    class_names, unknown = told.class_names, (*assumed, *told.unknown, *left_out)
    if class_names is not None and len(class_names) != known["num_classes"]:
        phrase = f"{len(class_names)} class names for {known['num_classes']} classes"
        class_names, unknown = None, (*unknown, phrase)
    return Found(
        told.family,
        chosen,
        _by_path(parts, table, registers),
        told.preprocessing,
        class_names,
        tuple(u for u in unknown if u.split(" ")[0] not in fields),
    )


def _read(family, tensors: Tensors, companions, attributes):
    """Returns `Parts`, `Told` and the names that are to be ignored."""
    origin = tensors.origin
    config = companions.get("config.json") or {}
    if family == "google":
        return google.parts_of(tensors), google.told(), google.IGNORED
    if family == "keras_hub":
        pooling = keras_hub.pooling_of(companions, origin)
        parts = keras_hub.parts_of(tensors, attributes, pooling)
        return parts, keras_hub.told(parts, companions), keras_hub.IGNORED
    if family == "timm" and tensors.prefix != open_clip.TOWER:
        config = config if "architecture" in config else {}
        parts = timm.parts_of(tensors, timm.pool_of(config))
        whose = timm.family_of(tensors)
        return parts, timm.told(parts, whose, config, origin), timm.IGNORED[whose]
    if family in ("timm", "open_clip"):
        config = companions.get("open_clip_config.json") or {}
        vision = (config.get("model_cfg") or {}).get("vision_cfg") or {}
        if family == "timm":
            tower = timm.parts_of(tensors, open_clip.pool_of(vision))
            parts = open_clip.with_projection(tower, tensors)
        else:
            parts = open_clip.parts_of(tensors, vision)
        told = open_clip.told(parts, tensors, config, origin)
        return parts, told, open_clip.ignored(tensors)
    if family in ("clip", "siglip"):
        parts = hugging_face_towers.parts_of(tensors)
        ignored = hugging_face_towers.ignored(tensors)
    else:
        pools = hugging_face_config.tanh_pooler(companions)
        family = hugging_face.family_of(tensors)
        parts, ignored = hugging_face.parts_of(tensors, pools), hugging_face.IGNORED
    told = hugging_face_config.told(parts, family, companions, origin)
    return parts, told, ignored


def _by_path(parts: Parts, table, registers):
    """Returns the arrays by the paths of a WideNet's weights."""
    arrays = {"embedding/position": table}
    if len(registers):
        arrays["embedding/registers"] = registers

    def add(path, pair, first="kernel", second="bias"):
        if pair is not None:
            arrays[f"{path}/{first}"], arrays[f"{path}/{second}"] = pair

    add("embedding/projection", parts.patch)
    add("embedding/norm", parts.embedding_norm, "gamma", "beta")
    for norm in ("norm1", "norm2"):
        pairs = [getattr(block, norm) for block in parts.blocks]
        stacked = [np.stack(each) for each in zip(*pairs, strict=True)]
        add(f"encoder/{norm}", stacked, "gamma", "beta")
    for number, block in enumerate(parts.blocks):
        here = f"encoder/block_{number}"
        for name in ("query", "key", "value", "output"):
            add(f"{here}/attention/{name}", getattr(block, name))
        for name in ("hidden", "outer", "gate"):
            add(f"{here}/feed_forward/{name}", getattr(block, name))
    add("head/norm", parts.norm, "gamma", "beta")
    if parts.probe is not None:
        arrays["head/attention/query"] = parts.probe.query
        for name in ("key", "value", "output", "hidden", "outer"):
            add(f"head/attention/{name}", getattr(parts.probe, name))
        add("head/attention/norm", parts.probe.norm, "gamma", "beta")
    add("head/representation", parts.representation)
    add("head/logits", parts.logits)
    return {path: np.ascontiguousarray(array) for path, array in arrays.items()}
