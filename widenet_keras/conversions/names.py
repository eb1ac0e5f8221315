"""Wrappers, prefixes, and what tells the families apart by the names of tensors."""

import re

import numpy as np

from widenet_keras.conversions.tensors import Tensors, name_in_words
from widenet_keras.utils.printable import printable

# Of several models in one training file the first of these that is there is taken.
WRAPPERS = (
    "model_ema",
    "state_dict_ema",
    "state_dict",
    "model",
    "teacher",
    "student",
    "model_state_dict",
    "params",
)
# What else stands beside a model in a training file.
_BESIDE = re.compile(
    r"(optimizer|optimizer_states|scaler|lr_scheduler|loss|args|epoch|step|"
    r"global_step|fp16_scaler|dino_loss|scheduler)(\.|$)"
)
_OUTER = ("module.", "_orig_mod.", "model.", "teacher.")
_INNER = (
    r"((module|_orig_mod|model|backbone|teacher|vision_model|vit|deit|dinov2|"
    r"dinov2_with_registers)\.)*"
)
# (family, prefixes, what must stand after one of them); the first that is met wins.
_SIGNS = (
    ("google", r"(opt/target/|params/(img/)?)?", ("embedding/kernel",)),
    (
        "keras_hub",
        r"(layers/vi_t_backbone/)?",
        ("layers/vi_t_patching_and_embedding/",),
    ),
    ("keras_hub", r"(layers/dei_t_backbone/)?", ("layers/dei_t_embeddings/",)),
    ("open_clip", r"(visual\.)?", ("conv1.weight", "transformer.resblocks.0.")),
    (
        "clip",
        _INNER,
        ("embeddings.class_embedding", "pre_layrnorm.weight"),
    ),
    ("siglip", _INNER, ("embeddings.patch_embedding.weight",)),
    ("vit", _INNER, ("embeddings.patch_embeddings.projection.weight",)),
    (
        "timm",
        rf"(visual\.trunk\.|{_INNER}(encoder\.)?)",
        ("patch_embed.proj.weight", "blocks.", "pos_embed"),
    ),
)
# Networks that are known and have no form here, by a name that only they have.
_REFUSED = (
    (r".*relative_position_bias", "BEiT (relative position bias)"),
    (r".*rel_pos_[hw]\b", "SAM or another model with relative positions"),
    (r".*blocks\.\d+\.attn\.q_proj\.", "EVA-02 (rotary positions)"),
    (r".*mlp\.fc1_g\.", "EVA-02 (rotary positions)"),
    (r".*rope[._]", "a model with rotary positions"),
    (r".*blocks\.\d+\.in_proj\.", "a model with parallel branches"),
    (r"visual\.layer1\.", "CLIP with a ResNet"),
    (r".*(conv_root|gn_root)\b", "a hybrid with a ResNet"),
    (r".*patch_embed\.backbone\.", "a hybrid with a ResNet"),
    (r"visual\.attn_pool\.", "CoCa (attention pooling with many queries)"),
)
# In what a model of this package saves.
_OURS = ("embedding/projection/vars/0", "encoder/norm1/vars/0")
SUPPORTED = (
    "timm (also DeiT, DINO, DINOv2, MAE), transformers (ViT, DeiT, ViTMAE, Dinov2, "
    "CLIP, SigLIP), KerasHub (ViT, DeiT), Google .npz (ViT, SigLIP) and OpenCLIP"
)


def unwrapped(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the arrays of the model that is to be read, without outer prefixes.

    Args:
        arrays: Dict by the names of the file, of nested dicts joined by dots.
    """
    while True:
        shared = [p for p in _OUTER if arrays and all(n.startswith(p) for n in arrays)]
        tops = {name.split(".")[0] for name in arrays}
        wrapper = next((w for w in WRAPPERS if w in tops), None)
        others = [
            n for n in arrays if not n.startswith(tuple(f"{w}." for w in WRAPPERS))
        ]
        if shared:
            prefix = shared[0]
        elif (
            wrapper
            and all(map(_BESIDE.match, others))
            and _family(arrays, f"{wrapper}.") is not None
        ):
            prefix = f"{wrapper}."
        else:
            return arrays
        arrays = {
            n[len(prefix) :]: a for n, a in arrays.items() if n.startswith(prefix)
        }


def family_of(arrays: dict[str, np.ndarray], origin: str) -> tuple[str, Tensors]:
    """Returns the family of a file, and its tensors under the vision model's prefix.

    Args:
        arrays: Dict by name, `unwrapped`.
        origin: What messages call the file.

    Raises:
        ValueError: If the names are those of a network that has no form here, or of
            none that is known.
    """
    for pattern, what in _REFUSED:
        match = next(filter(re.compile(pattern).match, arrays), None)
        if match is not None and not match.startswith(("text", "decoder")):
            raise ValueError(
                f"{printable(origin)}: tensor {name_in_words(match)} is of {what}, "
                f"which is not a plain vision transformer. Supported: {SUPPORTED}."
            )
    found = _family(arrays)
    if found is None:
        if all(name in arrays for name in _OURS):
            raise ValueError(
                f"{printable(origin)} has weights that this package wrote; read a "
                "folder with ImageClassifier.from_preset(), a file with "
                "model.load_weights()."
            )
        first = ", ".join(map(name_in_words, list(arrays)[:5])) or "none"
        raise ValueError(
            f"{printable(origin)}: the names of its tensors are of no known family "
            f"(the first: {first}). Supported: {SUPPORTED}."
        )
    family, prefix = found
    return family, Tensors(arrays, origin, prefix)


def _family(arrays, inside=""):
    """Returns (family, prefix), or None; names begin with `inside`."""
    names = [n[len(inside) :] for n in arrays if n.startswith(inside)]
    for family, prefixes, (first, *others) in _SIGNS:
        anchor = re.compile(rf"({prefixes}){re.escape(first)}")
        for match in filter(None, map(anchor.match, names)):
            if all(any(n.startswith(match[1] + o) for n in names) for o in others):
                return family, match[1]
        if inside and any(first in name for name in names):
            # Wrapped once more.
            return family, ""
    return None
