"""Preset folders of KerasHub: ViT and DeiT."""

import numpy as np

from widenet_keras.conversions import preprocessing_of
from widenet_keras.conversions.parts import Block, Parts, Told
from widenet_keras.conversions.tensors import Pair, Tensors
from widenet_keras.utils.printable import printable

IGNORED = r"(task/)?optimizer/|(.*/)?seed_generator/|.*dropout(_\d+)?/"


def parts_of(tensors: Tensors, attributes: dict, pooling: str = "token") -> Parts:
    """Returns the network of a preset of KerasHub.

    Args:
        tensors: View under the prefix of the backbone.
        attributes: Dict of the names of groups "vars" by their paths.
        pooling: "token", or "mean", where there is a task.

    Raises:
        ValueError: If a tensor is not there, or has another shape.
    """
    deit = any(name.startswith("layers/dei_t") for name in tensors.names())
    kind = "dei_t" if deit else "vi_t"
    embedding = tensors.under(
        "layers/dei_t_embeddings/" if deit else "layers/vi_t_patching_and_embedding/"
    )
    patch = _patch(embedding)
    width = patch.first.shape[-1]
    registers = (embedding.take("vars/1", width),) if deit else ()
    table = "vars/2" if deit else "position_embedding/vars/0"
    encoder = tensors.under(f"layers/{kind}_encoder/")
    pattern = rf"encoder_layers/{kind}_encoder_block(?:_(\d+))?/"
    blocks, heads, hidden = [], None, None
    for name in encoder.blocks(pattern):
        block, heads = _block(encoder.under(name), width, heads, hidden, deit)
        hidden = block.hidden.first.shape[1]
        blocks.append(block)
    class_token = embedding.get("vars/0", width)
    representation, logits = _head(tensors, width, attributes)
    return Parts(
        patch=patch,
        position=embedding.take(table, None, width),
        position_name=embedding.prefix + table,
        blocks=tuple(blocks),
        norm=Pair(*(encoder.take(f"layer_norm/vars/{i}", width) for i in range(2))),
        pooling=pooling if class_token is not None else "mean",
        class_token=class_token,
        registers=registers,
        representation=representation,
        logits=logits,
        heads=heads,
    )


def pooling_of(companions: dict, origin: str) -> str:
    """Returns the pooling that a task.json tells; the class token without one.

    Args:
        companions: Dict of JSON files by their names.
        origin: What messages call the source.

    Raises:
        ValueError: If the pooling, or the activation of the answers, is another one.
    """
    task = _config(companions, "task.json")
    pooling = task.get("pooling", "token")
    activation = task.get("activation")
    if isinstance(activation, dict):
        activation = activation.get("config", activation)
    if pooling not in ("token", "gap") or activation not in (None, "softmax", "linear"):
        name = "activation" if pooling in ("token", "gap") else "pooling"
        raise ValueError(
            f"{origin}: task.json says {name}={printable(repr(task[name]))}; a WideNet "
            'takes pooling "token" or "gap", and gives logits.'
        )
    return "mean" if pooling == "gap" else "token"


def told(parts: Parts, companions: dict) -> Told:
    """Returns what the JSON files of a preset tell.

    Args:
        parts: The network.
        companions: Dict of JSON files by their names.
    """
    config = _config(companions, "config.json")
    images = preprocessing_of.by_keras_hub(_config(companions, "image_converter.json"))
    unknown = () if config else ("norm_epsilon 1e-06 by the library",)
    shape = config.get("image_shape")
    deit = bool(parts.registers)
    return Told(
        family=f"KerasHub {'DeiT' if deit else 'ViT'}",
        activation="gelu",
        norm_epsilon=config.get("layer_norm_epsilon", 1e-6),
        mean=images.mean,
        std=images.std,
        preprocessing=images.geometry,
        heads=config.get("num_heads"),
        sizes={
            "image_size": shape[:2] if isinstance(shape, list) else None,
            "patch_size": config.get("patch_size"),
            "width": config.get("hidden_dim"),
            "steps": config.get("num_layers"),
            "mlp_dim": config.get("mlp_dim", config.get("intermediate_dim")),
        },
        unknown=(*unknown, *images.unknown),
    )


def _config(companions, name):
    """Returns the "config" of a serialised object, or an empty dict."""
    return (companions.get(name) or {}).get("config") or {}


def _patch(embedding):
    name = "patch_embedding/vars/"
    kernel = embedding.take(f"{name}0", None, None, None, None)
    bias = embedding.get(f"{name}1", kernel.shape[-1])
    if kernel.shape[0] != kernel.shape[1]:
        raise embedding.error(
            f"{embedding.prefix}{name}0",
            f"has shape {kernel.shape}; patches must be square",
        )
    return Pair(kernel, np.zeros_like(kernel[0, 0, 0]) if bias is None else bias)


def _block(tensors, width, heads, hidden, deit):
    """Returns a `Block` and the number of its heads."""
    if heads is None:
        heads = tensors.take("mha/query_dense/vars/0", width, None, None).shape[1]
        if not heads or width % heads:
            raise tensors.error(
                f"{tensors.prefix}mha/query_dense/vars/0",
                f"has {heads} heads, which do not divide its width {width}",
            )
    size = width // heads

    def dense(name, shape, outputs):
        kernel = tensors.take(f"{name}/vars/0", *shape)
        kernel = kernel.reshape(-1, kernel.shape[-1] if outputs is None else outputs)
        bias = tensors.get(f"{name}/vars/1")
        if bias is None:
            return Pair(kernel, np.zeros_like(kernel[0]))
        if bias.size != kernel.shape[1]:
            raise tensors.error(
                f"{tensors.prefix}{name}/vars/1",
                f"has {bias.size} values, not {kernel.shape[1]}",
            )
        return Pair(kernel, bias.reshape(-1))

    def norm(name):
        return Pair(*(tensors.take(f"{name}/vars/{i}", width) for i in range(2)))

    inner, outer = (
        ("mlp/dense", "output_layer/dense") if deit else ("mlp/dense_1", "mlp/dense_2")
    )
    first = dense(inner, (width, hidden), None)
    block = Block(
        norm1=norm("layer_norm_1"),
        norm2=norm("layer_norm_2"),
        query=dense("mha/query_dense", (width, heads, size), width),
        key=dense("mha/key_dense", (width, heads, size), width),
        value=dense("mha/value_dense", (width, heads, size), width),
        output=dense("mha/output_dense", (heads, size, width), width),
        hidden=first,
        outer=dense(outer, (first.first.shape[1], width), width),
    )
    return block, heads


def _head(tensors, width, attributes):
    """Returns the representation and the logits of a task, or None for each."""
    outside = tensors.outside()
    beside = "task/layers/" if tensors.prefix == "" else "layers/"
    found = {}
    for group in ("dense", "dense_1"):
        path = f"{beside}{group}/vars"
        if outside.has(f"{path}/0"):
            kernel = outside.take(f"{path}/0", width, None)
            bias = outside.get(f"{path}/1", kernel.shape[1])
            pair = Pair(kernel, np.zeros_like(kernel[0]) if bias is None else bias)
            name = attributes.get(path, group)
            if name in found:
                raise outside.error(f"{path}/0", "has the name of another layer")
            found[name] = pair
    if len(found) < 2:
        return None, next(iter(found.values()), None)
    # Without names the first that was made is the representation.
    first, last = found
    if first == "predictions" or last == "pre_logits":
        first, last = last, first
    representation = found[first]
    if representation.first.shape[1] != width:
        raise outside.error(
            f"{beside}dense/vars/0",
            f"is a representation of {representation.first.shape[1]}; a WideNet's is "
            f"as wide as its tokens, {width}",
        )
    return representation, found[last]
