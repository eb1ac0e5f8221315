"""The way out: a ViT of this package as weights and configuration of timm."""

import json
import os
from pathlib import Path

import keras
import numpy as np

from widenet_keras.conversions.remade import check_model
from widenet_keras.conversions.safetensors_files import write_safetensors
from widenet_keras.layers.sharing import PART_PLANS
from widenet_keras.models.weights import check_kernels, check_plain, weights_by_path
from widenet_keras.models.widenet import WideNet
from widenet_keras.utils.files import check_file, replaced_when_done

# Names of its class `VisionTransformer` by the epsilon of their norms, which no other
# argument says; `model_args` say the sizes.
_ARCHITECTURES = {1e-6: "vit_base_patch16_224", 1e-5: "vit_base_patch16_clip_224"}
_NORM = {"gamma": "weight", "beta": "bias"}


def to_timm(model: WideNet, path: str | os.PathLike) -> tuple[Path, Path]:
    """Writes the weights of a ViT as timm names them, and its configuration.

    ```python
    widenet_keras.to_timm(model, "out/model.safetensors")
    # said = json.loads(Path("out/config.json").read_text())
    # timm.create_model(said["architecture"], num_classes=said["num_classes"],
    #     checkpoint_path="out/model.safetensors", **said["model_args"])
    ```

    The answers are the same on images that are scaled to [-1, 1] (mean and standard
    deviation 0.5), up to float32 rounding. Steps that share a block become blocks with
    equal weights, since timm shares none. timm resizes images with antialiasing, also
    those of a model that was trained without.

    Args:
        model: A `WideNet` or `ImageClassifier` without experts.
        path: Path that ends in `.safetensors`; "config.json" is written beside it.

    Returns:
        The paths of both files.

    Raises:
        ValueError: If timm has no such model; one line says which field it lacks.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"{path} must end in .safetensors.")
    _check(model)
    arrays = {
        name: keras.ops.convert_to_numpy(weight).astype("float32")
        for name, weight in weights_by_path(model).items()
    }
    check_file(path)
    companion = path.with_name("config.json")
    check_file(companion)
    if companion.exists() and not _is_of(companion, path):
        raise ValueError(
            f"{companion} belongs to something else and would be replaced; give a "
            "folder of its own."
        )
    with replaced_when_done(companion) as said, replaced_when_done(path) as fresh:
        write_safetensors(_renamed(arrays, model.config), fresh)
        said.write_text(json.dumps(_companion(model), indent=2) + "\n")
    return path, companion


def _is_of(companion, path):
    """Whether a config.json is of the weights of timm that would be replaced."""
    if not path.exists() or set(path.parent.glob("*.safetensors")) != {path}:
        return False
    try:
        said = json.loads(companion.read_text())
    except ValueError:
        return False
    return isinstance(said, dict) and "architecture" in said


def _check(model):
    """Raises `ValueError` for what timm cannot express."""
    check_model("to_timm", model)
    check_plain("to_timm", model)
    check_kernels("to_timm", model)
    config = model.config
    lacks = {
        "experts": config.routed_steps,
        "pieces": config.pieces,
        "block_sizes": config.block_sizes,
        "step_widths": config.step_widths,
        "attention_groups": max(config.groups_of_steps.counts) > 1,
        "paths": config.paths > 1,
        "output_activation": config.output_activation,
        "representation (representation=False is a ViT without)": config.representation,
        "gated": config.gated,
        "pooling='mean' over a class token or registers": config.pooling == "mean"
        and (config.class_token or config.registers),
        f"pooling={config.pooling!r}": config.pooling.startswith("token_"),
        f"norm_epsilon={config.norm_epsilon} (adapted(norm_epsilon=1e-6) has one that "
        "it has, and nearly the answers of 1e-12)": config.norm_epsilon
        not in _ARCHITECTURES,
    }
    for what, present in lacks.items():
        if present:
            raise ValueError(
                f"to_timm: timm's VisionTransformer has no {what}; use a ViT without "
                "it, or widenet_keras.export for a file that runs elsewhere."
            )


def _renamed(arrays, config):
    """Returns the arrays by timm's names."""
    found = {}

    def linear(name, kernel, bias):
        found[f"{name}.weight"] = kernel.T
        found[f"{name}.bias"] = bias

    def product(name, path):
        linear(name, arrays[f"{path}/kernel"], arrays[f"{path}/bias"])

    def norm(name, path, *row):
        for ours, theirs in _NORM.items():
            found[f"{name}.{theirs}"] = arrays[f"{path}/{ours}"][row or ...]

    kernel = arrays["embedding/projection/kernel"]
    found["patch_embed.proj.weight"] = kernel.transpose(3, 2, 0, 1)
    bias, position = arrays["embedding/projection/bias"], arrays["embedding/position"]
    if config.embedding_norm:
        # There the patches have none in timm; their positions are added behind it.
        position = position.copy()
        position[int(config.class_token) :] += bias
    else:
        found["patch_embed.proj.bias"] = bias
    if config.class_token:
        # Its learned part is the first row here.
        found["cls_token"] = position[None, :1]
        position = np.concatenate([np.zeros_like(position[:1]), position[1:]])
    if config.registers:
        found["reg_token"] = arrays["embedding/registers"][None]
        rows = np.zeros((config.registers, config.width), "float32")
        first = int(config.class_token)
        position = np.concatenate([position[:first], rows, position[first:]])
    found["pos_embed"] = position[None]
    if config.embedding_norm:
        norm("norm_pre", "embedding/norm")
    for step, block in enumerate(config.block_of_step):
        theirs = f"blocks.{step}"
        attention, feed_forward = (
            f"encoder/block_{config.holders(part)[block]}/{part}" for part in PART_PLANS
        )
        for name, part in (("norm1", "attention"), ("norm2", "feed_forward")):
            norm(f"{theirs}.{name}", f"encoder/{name}", config.norm_rows(part)[step])
        inner = [f"{attention}/{part}" for part in ("query", "key", "value")]
        linear(
            f"{theirs}.attn.qkv",
            np.concatenate([arrays[f"{part}/kernel"] for part in inner], 1),
            np.concatenate([arrays[f"{part}/bias"] for part in inner]),
        )
        product(f"{theirs}.attn.proj", f"{attention}/output")
        product(f"{theirs}.mlp.fc1", f"{feed_forward}/hidden")
        product(f"{theirs}.mlp.fc2", f"{feed_forward}/outer")
    norm("fc_norm" if config.norm_after_pooling else "norm", "head/norm")
    if config.pooling == "attention":
        _put_attention_pooling(found, arrays, linear, product, norm)
    if config.num_classes:
        product("head", "head/logits")
    return found


def _put_attention_pooling(found, arrays, linear, product, norm):
    """Adds the attention of the head; its one query stands for probe and product."""
    query, path = arrays["head/attention/query"], "head/attention"
    found["attn_pool.latent"] = query[None, None]
    linear("attn_pool.q", np.eye(len(query), dtype="float32"), np.zeros_like(query))
    linear(
        "attn_pool.kv",
        *(
            np.concatenate(
                [arrays[f"{path}/{part}/{which}"] for part in ("key", "value")], -1
            )
            for which in ("kernel", "bias")
        ),
    )
    product("attn_pool.proj", f"{path}/output")
    norm("attn_pool.norm", f"{path}/norm")
    product("attn_pool.mlp.fc1", f"{path}/hidden")
    product("attn_pool.mlp.fc2", f"{path}/outer")


def _companion(model):
    """Returns the configuration as timm's files on the hub have it."""
    config, geometry = model.config, model.preprocessing
    pool = {"token": "token", "attention": "map"}.get(config.pooling, "avg")
    arguments = {
        "img_size": config.image_size,
        "patch_size": config.patch_size,
        "in_chans": config.channels,
        "embed_dim": config.width,
        "depth": config.steps,
        "num_heads": config.heads,
        # It is multiplied by the width, and the rest is cut off.
        "mlp_ratio": (config.mlp_dim + 0.5) / config.width,
        "class_token": config.class_token,
        "reg_tokens": config.registers,
        "pre_norm": config.embedding_norm,
        "fc_norm": config.norm_after_pooling,
        "global_pool": pool,
        "act_layer": config.activation,
    }
    found = {
        "architecture": _ARCHITECTURES[config.norm_epsilon],
        "num_classes": config.num_classes,
        "num_features": config.width,
        "global_pool": pool,
        "model_args": arguments,
        "pretrained_cfg": {
            "input_size": [config.channels, config.image_size, config.image_size],
            "interpolation": geometry.interpolation,
            "crop_pct": geometry.crop_pct,
            "crop_mode": geometry.crop_mode,
            "mean": [0.5] * config.channels,
            "std": [0.5] * config.channels,
            "num_classes": config.num_classes,
            "first_conv": "patch_embed.proj",
            "classifier": "head",
        },
    }
    if model.class_names:
        found["label_names"] = list(model.class_names)
    return found
