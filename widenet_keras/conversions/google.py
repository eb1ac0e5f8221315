"""Files .npz of Google: vision_transformer, big_vision and SigLIP's image towers."""

import re

import numpy as np

from widenet_keras.conversions.parts import Block, Parts, Probe, Told
from widenet_keras.conversions.preprocessing_of import prepared
from widenet_keras.conversions.tensors import Pair, Tensors

IGNORED = r"opt/(state|target/txt)|params/(txt/|t$|b$)|(t|b)$|txt/"
_POSITIONS = (
    "Transformer/posembed_input/pos_embedding",
    "Transformer/pos_embedding",
    "pos_embedding",
)
_SCANNED = "Transformer/encoderblock/"


def parts_of(tensors: Tensors) -> Parts:
    """Returns the network of an .npz file.

    Args:
        tensors: View under the prefix of the image tower.

    Raises:
        ValueError: If a tensor is not there, or has another shape.
    """
    patch = tensors.take("embedding/kernel")
    if patch.ndim != 4 or patch.shape[0] != patch.shape[1]:
        raise tensors.error(
            f"{tensors.prefix}embedding/kernel",
            f"has shape {patch.shape}; patches must be square: (p, p, channels, "
            "width), as models of one size of image have them",
        )
    width = patch.shape[-1]
    blocks, heads, hidden = [], None, None
    for view in _views(tensors):
        block, heads = _block(view, width, heads, hidden)
        hidden = block.hidden.first.shape[1]
        blocks.append(block)
    class_token = tensors.get("cls", width)
    table = next(filter(tensors.has, _POSITIONS), _POSITIONS[-1])
    top = any(name == "probe" for name in tensors.names())
    probe, pooling = None, "mean" if class_token is None else "token"
    if top or tensors.has("MAPHead_0/probe"):
        pooling = "attention"
        probe = _probe(tensors if top else tensors.under("MAPHead_0/"), width, heads)

    def dense(name):
        if not tensors.has(f"{name}/kernel"):
            return None
        return _dense(tensors, name, (width, None), (None,))

    return Parts(
        patch=Pair(patch, tensors.take("embedding/bias", width)),
        position=tensors.take(table, None, width),
        position_name=tensors.prefix + table,
        blocks=tuple(blocks),
        norm=_norm(tensors, "Transformer/encoder_norm", width),
        pooling=pooling,
        class_token=class_token,
        probe=probe,
        representation=dense("pre_logits"),
        logits=dense("head"),
        heads=heads,
    )


def told() -> Told:
    """Returns the habits of Google's libraries; there are no companions."""
    images = prepared(crop_mode="squash", interpolation="bilinear", antialias=False)
    return Told(
        family="Google .npz",
        activation="gelu_tanh",
        norm_epsilon=1e-6,
        mean=images.mean,
        std=images.std,
        preprocessing=images.geometry,
        unknown=(
            "activation gelu_tanh by the library",
            "norm_epsilon 1e-06 by the library",
            "preprocessing by the library",
        ),
    )


def _views(tensors):
    """Yields a view for each block; of a scanned file views on parts of its arrays."""
    names = [name for name in tensors.names() if name.startswith(_SCANNED)]
    if not names:
        prefixes = tensors.blocks(r"Transformer/encoderblock_(\d+)/")
        yield from (tensors.under(prefix) for prefix in prefixes)
        return
    stacked = {n: np.asarray(tensors.arrays[tensors.prefix + n]) for n in names}
    steps = {name: len(a) if a.ndim and a.size else 0 for name, a in stacked.items()}
    depth = next(iter(steps.values()))
    other = next((name for name, count in steps.items() if count != depth), None)
    if other is not None or not depth:
        name = other or next(iter(steps))
        raise tensors.error(
            tensors.prefix + name,
            f"has {steps[name]} steps and the first {depth}; all have as many",
        )
    # The leading axis is that of the steps; a part of an array is no copy. One after
    # the other: a file may claim any number, and the first that does not fit ends it.
    for step in range(depth):
        yield Tensors(
            {tensors.prefix + name: array[step] for name, array in stacked.items()},
            tensors.origin,
            tensors.prefix + _SCANNED,
            tensors.used,
        )


def _only(tensors, kind):
    """Returns the name of the only part of a kind, whatever number is at its end."""
    found = {name.split("/")[0] for name in tensors.names()}
    found = sorted(f for f in found if re.fullmatch(rf"{kind}_\d+", f))
    if len(found) != 1:
        what = ", ".join(found) or "none"
        raise tensors.error(
            f"{tensors.prefix}{kind}", f"must be there once; there is {what}"
        )
    return found[0]


def _dense(tensors, name, kernel, bias):
    """Returns a product (inputs, outputs); axes of heads are put together."""
    weights = tensors.take(f"{name}/kernel", *kernel)
    outputs = bias[0] if len(bias) == 1 else bias[0] * bias[1]
    weights = weights.reshape(-1, outputs or weights.shape[-1])
    bias = tensors.get(f"{name}/bias", *bias)
    bias = np.zeros_like(weights[0]) if bias is None else bias.reshape(-1)
    if bias.shape != weights.shape[1:]:
        raise tensors.error(
            f"{tensors.prefix}{name}/bias",
            f"has {bias.size} values, not {weights.shape[1]}",
        )
    return Pair(weights, bias)


def _norm(tensors, name, width):
    parts = (tensors.take(f"{name}/{part}", width) for part in ("scale", "bias"))
    return Pair(*parts)


def _attention(tensors, width, heads):
    """Returns query, key, value and output, and the number of heads."""
    name = _only(tensors, "MultiHeadDotProductAttention")
    if heads is None:
        query = f"{name}/query/kernel"
        heads = tensors.take(query, width, None, None).shape[1]
        if not heads or width % heads:
            raise tensors.error(
                tensors.prefix + query,
                f"has {heads} heads, which do not divide its width {width}",
            )
    split = (heads, width // heads)
    products = [
        _dense(tensors, f"{name}/{part}", (width, *split), split)
        for part in ("query", "key", "value")
    ]
    return [*products, _dense(tensors, f"{name}/out", (*split, width), (width,))], heads


def _mlp(tensors, width, hidden):
    name = _only(tensors, "MlpBlock")
    first = _dense(tensors, f"{name}/Dense_0", (width, hidden), (hidden,))
    inner = first.first.shape[1]
    return first, _dense(tensors, f"{name}/Dense_1", (inner, width), (width,))


def _block(tensors, width, heads, hidden):
    """Returns a `Block` and the number of its heads."""
    products, heads = _attention(tensors, width, heads)
    first, outer = _mlp(tensors, width, hidden)
    names = {name.split("/")[0] for name in tensors.names()}
    norms = sorted(
        (name for name in names if re.fullmatch(r"LayerNorm_\d+", name)),
        key=lambda name: int(name.split("_")[1]),
    )
    if len(norms) != 2:
        raise tensors.error(
            f"{tensors.prefix}LayerNorm", f"must be there twice, not {len(norms)} times"
        )
    norm1, norm2 = (_norm(tensors, name, width) for name in norms)
    return Block(norm1, norm2, *products, first, outer), heads


def _probe(tensors, width, heads):
    (query, key, value, output), _ = _attention(tensors, width, heads)
    first, outer = _mlp(tensors, width, None)
    return Probe(
        query=tensors.take("probe", width) @ query.first + query.second,
        key=key,
        value=value,
        output=output,
        norm=_norm(tensors, _only(tensors, "LayerNorm"), width),
        hidden=first,
        outer=outer,
    )
