"""A trained Vision Transformer of another library as a classifier of this one."""

import os
from collections.abc import Callable
from typing import Any

from widenet_keras.conversions.found import found_in
from widenet_keras.conversions.weight_files import read_weights
from widenet_keras.models.class_names import distinct_names
from widenet_keras.models.config import WideNetConfig
from widenet_keras.models.preprocessing import Preprocessing
from widenet_keras.models.weights import assign_all
from widenet_keras.training.image_classifier import ImageClassifier
from widenet_keras.utils.memory import MAX_MEMORY
from widenet_keras.utils.printable import printable

# What files do not tell, so that whoever knows better may say it.
_GUESSED = ("activation", "norm_epsilon", "mean", "std")
# Whose last layer projects into the space of texts.
_PROJECTS = ("transformers clip", "OpenCLIP", "OpenCLIP with a tower of timm")


def from_weights(
    source: Any,
    *,
    name: str | None = None,
    heads: int | None = None,
    num_classes: int | None = None,
    revision: str | None = None,
    cache_dir: str | os.PathLike | None = None,
    local_files_only: bool = False,
    max_memory: int = MAX_MEMORY,
    say: Callable[[str], None] = print,
    **fields: Any,
) -> ImageClassifier:
    """Returns a classifier with the weights that somebody trained elsewhere.

    ```python
    model = widenet_keras.from_weights("vit_small/model.safetensors", num_classes=5)
    ```

    Takes ViTs of timm, DeiT, DINO, DINOv2, MAE, Hugging Face (ViT, DeiT, ViTMAE,
    Dinov2, CLIP, SigLIP), KerasHub, Google and OpenCLIP. Every tensor of the network is
    used, or the first that is not is named; what files of these libraries hold beside
    it (text towers, decoders, mask tokens, poolers that nothing reads, heads of
    pretraining) is left out without a word; of several networks in a training file the
    moving average is taken, else the teacher before the student. The answers are those
    of the library whose file it is, up to float32 rounding: the images' mean and
    standard deviation and LayerScale are folded into the products beside them, and
    `model.preprocessing` is how their images were cut and resized. The projection of
    CLIP into the space of its texts takes the place of the classes: its numbers are the
    logits.

    Args:
        source: A file (.safetensors, .bin, .pth, .npz, .weights.h5), a folder of it and
            its configuration, or "hub:owner/name" (extra `hub`).
        name: Name of the model.
        heads: H where neither file nor configuration tells it, or a configuration tells
            it wrongly.
        num_classes: Other classes start the last layer anew; None keeps those of the
            file, and 0 gives a model that returns features, of distilled ones those of
            both tokens side by side.
        revision: Branch, tag or commit on the hub.
        cache_dir: Folder that the hub's files are kept in.
        local_files_only: Whether only files that are there already may be used.
        max_memory: Bytes that packed arrays may take beyond what their files weigh.
        say: Function of the line that tells what was found and what was assumed.
        **fields: `activation`, `norm_epsilon`, `mean`, `std` (of the images, three
            numbers from 0 to 1) where the file does not tell, or tells wrongly: what
            is given wins; `image_size`, to which the position table is resampled, with
            antialiasing, as timm does; and fields of `WideNetConfig` that touch no
            weight (dropout, remat, ...).

    Raises:
        ValueError: If there is no such file, it is of no such model, or something does
            not fit; one line names it. No model is made then.
        OSError: If the file cannot be read.
        ImportError: If the hub is named and `huggingface_hub` is not installed.
    """
    weights = read_weights(
        source,
        revision=revision,
        cache_dir=cache_dir,
        local_files_only=local_files_only,
        max_memory=max_memory,
    )
    known = {key: fields.pop(key) for key in _GUESSED if key in fields}
    found = found_in(
        weights.arrays,
        weights.companions,
        weights.origin,
        attributes=weights.attributes,
        heads=heads,
        **known,
    )
    # The file is not in memory beside the model.
    weights = weights._replace(arrays={})
    image_size = fields.pop("image_size", None)
    if image_size is not None:
        # What was said of another is settled.
        others = (u for u in found.unknown if not u.startswith("image_size "))
        found = found._replace(unknown=tuple(others))
    config = WideNetConfig(**found.fields)
    _check_fields(fields, found)
    model = ImageClassifier(
        config.replace(**fields), name=name, origin=_origin_of(found, weights.origin)
    )
    assign_all(model, found.arrays, weights.origin)
    changed = {"image_size": image_size, "num_classes": num_classes}
    changed = {
        key: value
        for key, value in changed.items()
        if value not in (None, getattr(config, key))
    }
    if changed:
        model = model.adapted(**changed)
    say(_line(model, found, weights))
    return model


def _check_fields(fields, found):
    """Raises `ValueError` for fields that the file decides."""
    for key, value in fields.items():
        if key != "dropout" and value != found.fields.get(key, value):
            raise ValueError(
                f"from_weights: {key}={value!r} and the file has "
                f"{key}={found.fields[key]!r}; leave it out, or change it afterwards "
                "with model.adapted()."
            )


def _origin_of(found, origin):
    """Returns the origin of the model: classes, geometry, where it comes from."""
    return {
        "class_names": found.class_names and distinct_names(found.class_names),
        "preprocessing": Preprocessing(**found.preprocessing),
        "trained_on": f"converted from {origin} ({found.family})",
    }


def _line(model, found, weights):
    """Returns what was found and what had to be assumed, one line."""
    config = model.config
    kept = config.num_classes and config.num_classes == found.fields["num_classes"]
    projects = kept and found.family in _PROJECTS
    what = "numbers of its projection for classes" if projects else "classes"
    line = (
        f"{weights.origin}: {found.family}, {model.count_params():,} parameters, "
        f"{config.steps} steps of width {config.width}, {config.heads} heads, images "
        f"of {config.image_size} px in patches of {config.patch_size}, "
        f"{config.num_classes or 'no'} {what}."
    )
    assumed = [*weights.assumed, *found.unknown]
    return printable(line + (f" Assumed: {'; '.join(assumed)}." if assumed else ""))
