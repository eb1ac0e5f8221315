"""Files of timm, and of what has its names: DeiT, DINO, DINOv2 and MAE."""

from widenet_keras.conversions import architectures, folding, preprocessing_of
from widenet_keras.conversions.parts import Block, Parts, Probe, Told
from widenet_keras.conversions.tensors import Pair, Tensors

# What training adds beside the network; `head.fc` and the like are not in it.
IGNORED = {
    # Dropped by timm itself, from files before 2022.
    "timm": r"pre_logits\.",
    "DINO": r"(module\.)?head\.(mlp|last_layer)\.",
    "DINOv2": r"(backbone\.)?mask_token$|(dino_head|ibot_head)\.",
    "MAE": r"mask_token$|decoder_",
}
# Of `model_args`: what the tensors tell, or what changes no answer.
_TOLD_BY_TENSORS = {
    "img_size": "image_size",
    "patch_size": "patch_size",
    "in_chans": "channels",
    "embed_dim": "width",
    "depth": "steps",
    "num_classes": "num_classes",
}
_POOLS = (None, "", "token", "avg", "map")
_HARMLESS = {
    *("class_token", "no_embed_class", "init_values", "mlp_ratio", "reg_tokens"),
    *("qkv_bias", "pre_norm", "fc_norm", "final_norm", "pos_embed", "weight_init"),
    *("dynamic_img_size", "dynamic_img_pad", "strict_img_size", "num_heads"),
    *("pos_drop_rate", "patch_drop_rate", "proj_drop_rate", "attn_drop_rate"),
    *("drop_rate", "drop_path_rate", "act_layer", "global_pool", "fix_init"),
    *("pretrained_strict",),
}
_ACTIVATIONS = {
    "gelu": "gelu",
    "quick_gelu": "quick_gelu",
    "gelu_tanh": "gelu_tanh",
    "silu": "silu",
    "swish": "silu",
    "relu": "relu",
}


def family_of(tensors: Tensors) -> str:
    """Returns "timm", "DINO", "DINOv2" or "MAE": whose file in timm's names it is."""
    everything = tensors.outside().names()
    mask = tensors.arrays.get(f"{tensors.prefix}mask_token")
    if any(name.startswith("decoder_") for name in everything):
        return "MAE"
    if tensors.has("register_tokens") or (mask is not None and mask.ndim == 2):
        return "DINOv2"
    if any("head.last_layer." in name for name in everything):
        return "DINO"
    return "timm"


def parts_of(tensors: Tensors, pool: str | None = None) -> Parts:
    """Returns the network of a file in timm's names.

    Args:
        tensors: View under the prefix of the vision model.
        pool: What a config says of the pooling, where tensors do not tell it: "avg",
            "token" or None. timm's "token" may have a norm behind it.

    Raises:
        ValueError: If a tensor is not there, or has another shape.
    """
    patch = tensors.patches("patch_embed.proj", flat=True)
    width = patch.first.shape[-1]
    class_token = tensors.get("cls_token", width)
    registers = []
    if tensors.has("dist_token"):
        registers.append(tensors.take("dist_token", width))
    for name in ("reg_token", "register_tokens"):
        if tensors.has(name):
            registers += list(tensors.take(name, None, width))
    blocks, hidden = [], None
    for name in tensors.blocks(r"blocks\.(?:\d+\.)?(\d+)\."):
        blocks.append(_block(tensors.under(name), width, hidden))
        hidden = blocks[-1].hidden.first.shape[1]
    after = tensors.has("fc_norm.weight")
    probe = None
    if tensors.has("attn_pool.latent"):
        probe, pooling = _probe(tensors.under("attn_pool."), width), "attention"
    elif (after and pool != "token") or (pool == "avg" and class_token is not None):
        pooling = "patches"
    elif class_token is not None:
        pooling = "token"
    else:
        pooling = "patches" if registers else "mean"
    logits = None
    if tensors.has("head_dist.weight"):
        heads = [tensors.linear(n, width, None) for n in ("head", "head_dist")]
        logits, pooling = folding.averaged(*heads), "token_and_register"
    elif tensors.has("head.weight"):
        logits = tensors.linear("head", width, None)
    pre = "norm_pre.weight"
    return Parts(
        patch=patch,
        position=tensors.take("pos_embed", None, width),
        position_name=f"{tensors.prefix}pos_embed",
        blocks=tuple(blocks),
        norm=tensors.norm("fc_norm" if after else "norm", width),
        pooling=pooling,
        class_token=class_token,
        registers=tuple(registers),
        embedding_norm=tensors.norm("norm_pre", width) if tensors.has(pre) else None,
        # The norm of one token is the same before it is taken.
        norm_after_pooling=after and pooling != "token",
        probe=probe,
        logits=logits,
    )


def told(parts: Parts, family: str, config: dict, origin: str) -> Told:
    """Returns what the config.json of timm, or its habits, tell.

    Args:
        parts: The network.
        family: Of `family_of`.
        config: The companion with an "architecture", or an empty dict.
        origin: What messages call the source.

    Raises:
        ValueError: If the architecture is not a plain vision transformer.
    """
    gated = parts.blocks[0].gate is not None
    epsilon = 1e-6 if parts.embedding_norm is None else 1e-5
    name, unknown, arguments = None, [], _arguments(config)
    if config:
        name = architectures.check_architecture(config["architecture"], origin)
        _check_arguments(arguments, origin)
        if arguments.get("pre_norm") is not None:
            # Then the name alone says which norms they are.
            epsilon = 1e-5 if "_clip_" in name else 1e-6
    elif family == "timm":
        usual = architectures.activation_of(None, gated)
        for phrase in (f"activation {usual}", f"norm_epsilon {epsilon:g}"):
            unknown.append(f"{phrase} by the library")
        unknown.append("that positions and norms are those of a plain ViT")
    mean_std = preprocessing_of.IMAGENET
    if parts.embedding_norm is not None:
        mean_std = preprocessing_of.CLIP
    elif parts.probe is not None:
        mean_std = (preprocessing_of.HALF,) * 2
    # In files of earlier versions these fields stand beside the architecture.
    images = config.get("pretrained_cfg") or config
    prepared = preprocessing_of.by_timm(images, mean_std)
    sizes = {ours: arguments.get(n) for n, ours in _TOLD_BY_TENSORS.items()}
    sizes["width"] = sizes["width"] or config.get("num_features")
    input_size = images.get("input_size")
    sizes["input_size"] = input_size[-1] if isinstance(input_size, list) else None
    sizes["num_classes"] = config.get("num_classes") if parts.logits else None
    names = config.get("label_names") or images.get("labels")
    act = arguments.get("act_layer")
    return Told(
        family=family,
        activation=_ACTIVATIONS[act]
        if act
        else architectures.activation_of(name, gated),
        norm_epsilon=epsilon,
        mean=prepared.mean,
        std=prepared.std,
        preprocessing=prepared.geometry,
        heads=arguments.get("num_heads") or architectures.heads_by_name(name),
        sizes=sizes,
        class_names=tuple(map(str, names)) if isinstance(names, list) else None,
        unknown=(*unknown, *(prepared.unknown if family == "timm" else ())),
    )


def pool_of(config: dict) -> str | None:
    """Returns the pooling that a config.json of timm says, or None."""
    return _arguments(config)["global_pool"]


def _arguments(config):
    """Returns what `create_model` is given; `model_args` come last in it."""
    said = {"global_pool": config.get("global_pool")}
    return said | (config.get("model_args") or {})


def _check_arguments(arguments, origin):
    other = sorted(set(arguments) - set(_TOLD_BY_TENSORS) - _HARMLESS)
    act = arguments.get("act_layer")
    if act is not None and act not in _ACTIVATIONS:
        other = ["act_layer"]
    elif arguments["global_pool"] not in _POOLS:
        other = ["global_pool"]
    if other:
        raise ValueError(
            f"{origin}: config.json changes {other[0]!r} of the architecture to "
            f"{arguments[other[0]]!r}, which has no known form here; use a model that "
            "does not."
        )


def _block(tensors, width, hidden):
    """Returns a `Block`; F is free where `hidden` is None."""
    query, key, value = folding.thirds(tensors.linear("attn.qkv", width, 3 * width))
    if tensors.has("attn.q_bias"):
        query = Pair(query.first, tensors.take("attn.q_bias", width))
        value = Pair(value.first, tensors.take("attn.v_bias", width))
    gate = None
    if tensors.has("mlp.w12.weight"):
        first, gate = folding.halves(
            tensors.linear("mlp.w12", width, hidden and 2 * hidden)
        )
        outer = tensors.linear("mlp.w3", first.first.shape[1], width)
    else:
        outer = tensors.linear("mlp.fc2", hidden, width)
        inner = outer.first.shape[0]
        rows = tensors.take("mlp.fc1.weight", None, width).shape[0]
        packed = rows == 2 * inner
        first = tensors.linear("mlp.fc1", width, 2 * inner if packed else inner)
        if packed:
            first, gate = folding.halves(first)
    scales = []
    for names in (("ls1.gamma", "gamma_1"), ("ls2.gamma", "gamma_2")):
        name = next(filter(tensors.has, names), None)
        scales.append(None if name is None else tensors.take(name, width))
    return Block(
        norm1=tensors.norm("norm1", width),
        norm2=tensors.norm("norm2", width),
        query=query,
        key=key,
        value=value,
        output=folding.scaled_output(
            tensors.linear("attn.proj", width, width), scales[0]
        ),
        hidden=first,
        outer=folding.scaled_output(outer, scales[1]),
        gate=gate,
    )


def _probe(tensors, width):
    latent = tensors.take("latent", width)
    query = tensors.linear("q", width, width)
    packed = tensors.linear("kv", width, 2 * width)
    key, value = folding.halves(packed)
    hidden = tensors.linear("mlp.fc1", width, None)
    return Probe(
        query=latent @ query.first + query.second,
        key=key,
        value=value,
        output=tensors.linear("proj", width, width),
        norm=tensors.norm("norm", width),
        hidden=hidden,
        outer=tensors.linear("mlp.fc2", hidden.first.shape[1], width),
    )
