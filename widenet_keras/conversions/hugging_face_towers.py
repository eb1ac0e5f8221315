"""Files of transformers with an image tower of CLIP or SigLIP."""

from widenet_keras.conversions import folding
from widenet_keras.conversions.parts import Block, Parts, Probe
from widenet_keras.conversions.tensors import Pair, Tensors

_IGNORED = r".*position_ids$|text_model\.|text_projection\.|logit_(scale|bias)$"
_CLASSIFIER = "classifier.weight"


def parts_of(tensors: Tensors) -> Parts:
    """Returns the network of an image tower of CLIP or SigLIP.

    Args:
        tensors: View under the prefix of the tower.

    Raises:
        ValueError: If a tensor is not there, or has another shape.
    """
    patch = tensors.patches("embeddings.patch_embedding")
    width = patch.first.shape[-1]
    class_token = tensors.get("embeddings.class_embedding", width)
    blocks, hidden = [], None
    for name in tensors.blocks(r"(?:encoder\.)?layers\.(\d+)\."):
        blocks.append(_block(tensors.under(name), width, hidden))
        hidden = blocks[-1].hidden.first.shape[1]
    outside, logits, probe = tensors.outside(), None, None
    if class_token is None:
        pooling = "mean"
        if outside.has(_CLASSIFIER):
            logits = outside.linear("classifier", width, None)
        elif tensors.has("head.probe"):
            pooling, probe = "attention", _probe(tensors.under("head."), width)
    else:
        pooling = "token"
        if outside.has("visual_projection.weight"):
            logits = outside.linear("visual_projection", width, None)
    pre = "pre_layrnorm"
    return Parts(
        patch=patch,
        position=tensors.take("embeddings.position_embedding.weight", None, width),
        position_name=f"{tensors.prefix}embeddings.position_embedding.weight",
        blocks=tuple(blocks),
        norm=tensors.norm("post_layernorm", width),
        pooling=pooling,
        class_token=class_token,
        embedding_norm=tensors.norm(pre, width) if class_token is not None else None,
        probe=probe,
        logits=logits,
    )


def ignored(tensors: Tensors) -> str:
    """Returns the names that say nothing of the tower, as a regular expression."""
    # The classifier of SigLIP stands on the mean of all tokens; files of it may still
    # have the probe.
    unused = tensors.outside().has(_CLASSIFIER)
    return rf"{_IGNORED}|(vision_model\.)?head\." if unused else _IGNORED


def _block(tensors, width, hidden):
    """Returns a `Block`; F is free where `hidden` is None."""
    first = tensors.linear("mlp.fc1", width, hidden)
    return Block(
        norm1=tensors.norm("layer_norm1", width),
        norm2=tensors.norm("layer_norm2", width),
        query=tensors.linear("self_attn.q_proj", width, width),
        key=tensors.linear("self_attn.k_proj", width, width),
        value=tensors.linear("self_attn.v_proj", width, width),
        output=tensors.linear("self_attn.out_proj", width, width),
        hidden=first,
        outer=tensors.linear("mlp.fc2", first.first.shape[1], width),
    )


def _probe(tensors, width):
    packed = tensors.take("attention.in_proj_weight", 3 * width, width).T
    bias = tensors.take("attention.in_proj_bias", 3 * width)
    query, key, value = folding.thirds(Pair(packed, bias))
    hidden = tensors.linear("mlp.fc1", width, None)
    return Probe(
        query=tensors.take("probe", width) @ query.first + query.second,
        key=key,
        value=value,
        output=tensors.linear("attention.out_proj", width, width),
        norm=tensors.norm("layernorm", width),
        hidden=hidden,
        outer=tensors.linear("mlp.fc2", hidden.first.shape[1], width),
    )
