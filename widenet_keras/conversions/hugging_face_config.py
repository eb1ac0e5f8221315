"""What config.json and preprocessor_config.json of transformers tell."""

from typing import NamedTuple

from widenet_keras.conversions import preprocessing_of
from widenet_keras.conversions.parts import Parts, Told
from widenet_keras.conversions.preprocessing_of import Prepared, prepared
from widenet_keras.utils.printable import printable

_ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_accurate": "gelu_tanh",
    "quick_gelu": "quick_gelu",
    "silu": "silu",
    "swish": "silu",
    "relu": "relu",
}


class _Family(NamedTuple):
    """What a config leaves out where it is the default, and a family's images.

    Attributes:
        types: Values of `model_type` that such tensors may have.
        activation: Default; None where a file without a config must be asked for.
        epsilon: Default.
        images: `Prepared` where nothing tells it.
        heads: Default where there is a config.
        squashes: Whether a size that is a plain number means a squashed square.
    """

    types: tuple[str, ...]
    activation: str
    epsilon: float
    images: Prepared
    heads: int = 12
    squashes: bool = True


_SQUASHED = prepared(crop_mode="squash", interpolation="bilinear")
_ORIGINAL = prepared(*preprocessing_of.IMAGENET, crop_pct=0.875)
_DINO = ("dinov2", "dinov2_with_registers")
_FAMILIES = {
    "vit": _Family(("vit", "vit_mae"), "gelu", 1e-12, _SQUASHED),
    "vit_mae": _Family(("vit", "vit_mae"), "gelu", 1e-12, _ORIGINAL),
    "deit": _Family(("deit",), "gelu", 1e-12, _ORIGINAL),
    "dinov2": _Family(_DINO[:1], "gelu", 1e-6, _ORIGINAL, squashes=False),
    "dinov2_with_registers": _Family(
        _DINO[1:], "gelu", 1e-6, _ORIGINAL, squashes=False
    ),
    "clip": _Family(
        ("clip", "clip_vision_model"),
        "quick_gelu",
        1e-5,
        prepared(*preprocessing_of.CLIP),
        squashes=False,
    ),
    "siglip": _Family(
        ("siglip", "siglip_vision_model"),
        "gelu_tanh",
        1e-6,
        prepared(crop_mode="squash"),
    ),
}


def told(parts: Parts, family: str, companions: dict, origin: str) -> Told:
    """Returns what the JSON files of transformers, or its habits, tell.

    Args:
        parts: The network.
        family: A `model_type`, as the tensors tell it.
        companions: Dict of JSON files by their names.
        origin: What messages call the source.

    Raises:
        ValueError: If the config is of another kind of network.
    """
    kind = _FAMILIES[family]
    config = companions.get("config.json") or {}
    config = config if "model_type" in config else {}
    gated = parts.blocks[0].gate is not None
    unknown = []
    if config:
        if config["model_type"] not in kind.types:
            allowed = " or ".join(map(repr, kind.types))
            raise ValueError(
                f"{origin}: config.json says model_type="
                f"{printable(repr(config['model_type']))}, and the names of the "
                f"tensors are those of {allowed}; give both files of one model."
            )
        if config["model_type"] in _FAMILIES:
            # An encoder of MAE without its decoder has the tensors of a ViT.
            family = config["model_type"]
            kind = _FAMILIES[family]
        vision = {**config, **(config.get("vision_config") or {})}
        # A name that is none of these is asked for.
        named = vision.get("hidden_act")
        activation = _ACTIVATIONS.get(named) if named else kind.activation
        epsilon = vision.get("layer_norm_eps", kind.epsilon)
        pooler = {vision.get("pooler_output_size"), vision.get("pooler_act")}
        usual = {None, "tanh", vision.get("hidden_size")}
        if not pooler <= usual and parts.logits is parts.representation is None:
            unknown.append("features in front of its pooler, which has no form here")
    else:
        vision, epsilon = {}, kind.epsilon
        # Ports of OpenCLIP have the same names and another activation.
        activation = None if family == "clip" else kind.activation
        chosen = "silu" if gated else activation
        unknown.append(f"activation {chosen} by the library")
        unknown.append(f"norm_epsilon {epsilon:g} by the library")
    images = companions.get("preprocessor_config.json")
    if images is None:
        processor = companions.get("processor_config.json") or {}
        images = processor.get("image_processor")
    prepared = preprocessing_of.by_transformers(
        images or {}, kind.images, kind.squashes, vision.get("image_size")
    )
    return Told(
        family=f"transformers {family}",
        activation="silu" if gated else activation,
        norm_epsilon=epsilon,
        mean=prepared.mean,
        std=prepared.std,
        preprocessing=prepared.geometry,
        heads=vision.get("num_attention_heads", kind.heads) if config else None,
        sizes={
            "width": vision.get("hidden_size"),
            "steps": vision.get("num_hidden_layers"),
            "mlp_dim": None if family in _DINO else vision.get("intermediate_size"),
            "image_size": vision.get("image_size"),
            "patch_size": vision.get("patch_size"),
            "channels": vision.get("num_channels"),
        },
        class_names=_class_names(config, parts),
        unknown=(*unknown, *prepared.unknown),
    )


def tanh_pooler(companions: dict) -> bool:
    """Returns whether `pooler.dense` is followed by tanh, as it is unless said."""
    config = companions.get("config.json") or {}
    return config.get("pooler_act", "tanh") == "tanh"


def _class_names(config, parts):
    """Returns the names of `id2label` in the order of their numbers, or None."""
    names = config.get("id2label")
    if not isinstance(names, dict) or parts.logits is None:
        return None
    count = parts.logits.first.shape[1]
    named = {str(number): str(name) for number, name in names.items()}
    ordered = tuple(named.get(str(number)) for number in range(count))
    # These stand for no name.
    meant = any(name != f"LABEL_{number}" for number, name in enumerate(ordered))
    return ordered if meant and None not in ordered and len(names) == count else None
