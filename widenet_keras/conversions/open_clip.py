"""Files of OpenCLIP: its own image towers, and those of timm inside it."""

from widenet_keras.conversions import folding, preprocessing_of
from widenet_keras.conversions.architectures import (
    activation_of,
    check_architecture,
    heads_by_name,
)
from widenet_keras.conversions.parts import Block, Parts, Told
from widenet_keras.conversions.preprocessing_of import prepared
from widenet_keras.conversions.tensors import Pair, Tensors
from widenet_keras.utils.printable import printable

# The text tower and what ties the two.
IGNORED = (
    r"(transformer|token_embedding|ln_final|text)\.|"
    r"(positional_embedding|text_projection|logit_scale|logit_bias|attn_mask)$"
)
TOWER = "visual.trunk."


def parts_of(tensors: Tensors, config: dict) -> Parts:
    """Returns the network of an image tower of OpenCLIP's own.

    Args:
        tensors: View under the prefix of the tower.
        config: Its `vision_cfg`, or an empty dict.

    Raises:
        ValueError: If a tensor is not there, or has another shape.
    """
    patch = tensors.patches("conv1")
    width = patch.first.shape[-1]
    blocks, hidden = [], None
    for name in tensors.blocks(r"transformer\.resblocks\.(\d+)\."):
        blocks.append(_block(tensors.under(name), width, hidden))
        hidden = blocks[-1].hidden.first.shape[1]
    average = config.get("pool_type", "tok") == "avg" or config.get(
        "global_average_pool", False
    )
    projection = tensors.get("proj", width, None)
    logits = None
    if projection is not None:
        logits = Pair(projection, projection[0] * 0)
    pre = tensors.has("ln_pre.weight")
    return Parts(
        patch=patch,
        position=tensors.take("positional_embedding", None, width),
        position_name=f"{tensors.prefix}positional_embedding",
        blocks=tuple(blocks),
        norm=tensors.norm("ln_post", width),
        pooling="patches" if average else "token",
        class_token=tensors.take("class_embedding", width),
        embedding_norm=tensors.norm("ln_pre", width) if pre else None,
        norm_after_pooling=bool(average and config.get("final_ln_after_pool", False)),
        logits=logits,
    )


def pool_of(vision: dict) -> str | None:
    """Returns the pooling that a `vision_cfg` says of a tower of timm, or None."""
    return vision.get("timm_pool", "avg") if "timm_model_name" in vision else None


def with_projection(parts: Parts, tensors: Tensors) -> Parts:
    """Returns a tower of timm with the projection that OpenCLIP puts behind it.

    Args:
        parts: The tower.
        tensors: View on any part of the file.
    """
    outside = tensors.outside()
    if not outside.has("visual.head.proj.weight"):
        return parts
    width = parts.patch.first.shape[-1]
    return parts._replace(logits=outside.linear("visual.head.proj", width, None))


def ignored(tensors: Tensors) -> str:
    """Returns the names that say nothing of the tower, as a regular expression."""
    # A tower in a file of its own has its own names at the top.
    return IGNORED if tensors.prefix else r"(?!)"


def told(parts: Parts, tensors: Tensors, config: dict, origin: str) -> Told:
    """Returns what an open_clip_config.json tells.

    Args:
        parts: The network.
        tensors: View under the prefix of the tower.
        config: That file, or an empty dict.
        origin: What messages call the source.

    Raises:
        ValueError: If the tower is of another kind, or pools in another way.
    """
    model = config.get("model_cfg") or {}
    vision = model.get("vision_cfg") or {}
    tower = tensors.prefix == TOWER
    defaults = prepared(*preprocessing_of.CLIP)
    if parts.probe is not None or parts.class_token is None:
        defaults = prepared(crop_mode="squash")
    images = preprocessing_of.by_open_clip(config.get("preprocess_cfg") or {}, defaults)
    epsilon = 1e-6 if tower and parts.embedding_norm is None else 1e-5
    width, heads, activation, unknown = vision.get("width"), None, None, []
    if tower:
        name = vision.get("timm_model_name")
        if name is not None:
            name = check_architecture(name, origin)
        activation = activation_of(name, parts.blocks[0].gate is not None)
        heads = heads_by_name(name)
        if name is None:
            unknown.append(f"activation {activation} by the library")
            unknown.append(f"norm_epsilon {epsilon:g} by the library")
    elif vision:
        _check_pooling(vision, origin)
        activation = "quick_gelu" if model.get("quick_gelu") else "gelu"
        if (vision.get("act_kwargs") or {}).get("approximate") == "tanh":
            activation = "gelu_tanh" if activation == "gelu" else activation
        epsilon = (vision.get("norm_kwargs") or {}).get("eps", epsilon)
        inner = width or parts.patch.first.shape[-1]
        heads = inner // vision.get("head_width", 64)
    else:
        unknown.append(f"norm_epsilon {epsilon:g} by the library")
    return Told(
        family="OpenCLIP with a tower of timm" if tower else "OpenCLIP",
        activation=activation,
        norm_epsilon=epsilon,
        mean=images.mean,
        std=images.std,
        preprocessing=images.geometry,
        heads=heads,
        sizes={"input_size": vision.get("image_size")}
        if tower
        else {
            "image_size": vision.get("image_size"),
            "patch_size": vision.get("patch_size"),
            "width": width,
            "steps": vision.get("layers"),
        },
        unknown=(*unknown, *images.unknown),
    )


def _check_pooling(vision, origin):
    pooling = vision.get("pool_type", "tok")
    if pooling not in ("tok", "avg") or vision.get("attentional_pool"):
        what = repr(pooling) if pooling not in ("tok", "avg") else "attention"
        raise ValueError(
            f"{origin}: open_clip_config.json says that tokens are pooled by "
            f"{printable(what)}; a WideNet takes OpenCLIP's 'tok' and 'avg'."
        )


def _block(tensors, width, hidden):
    """Returns a `Block`; F is free where `hidden` is None."""
    packed = tensors.take("attn.in_proj_weight", 3 * width, width).T
    bias = tensors.get("attn.in_proj_bias", 3 * width)
    query, key, value = folding.thirds(
        Pair(packed, packed[0] * 0 if bias is None else bias)
    )
    first = tensors.linear("mlp.c_fc", width, hidden)
    inner = first.first.shape[1]
    return Block(
        norm1=tensors.norm("ln_1", width),
        norm2=tensors.norm("ln_2", width),
        query=query,
        key=key,
        value=value,
        output=folding.scaled_output(
            tensors.linear("attn.out_proj", width, width),
            tensors.get("ls_1.gamma", width),
        ),
        hidden=first,
        outer=folding.scaled_output(
            tensors.linear("mlp.c_proj", inner, width),
            tensors.get("ls_2.gamma", width),
        ),
    )
