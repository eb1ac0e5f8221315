"""Files of transformers: ViT, DeiT, ViTMAE and Dinov2, by their old and new names."""

from widenet_keras.conversions import folding
from widenet_keras.conversions.parts import Block, Parts
from widenet_keras.conversions.tensors import Tensors

IGNORED = r".*mask_token$|decoder\.|.*pooler\.|.*position_ids$"
# Each block's parts by the names of files, and by those of modules from version 5 on.
_VIT = {
    "norm1": "layernorm_before",
    "norm2": "layernorm_after",
    "attention.q_proj": "attention.attention.query",
    "attention.k_proj": "attention.attention.key",
    "attention.v_proj": "attention.attention.value",
    "attention.o_proj": "attention.output.dense",
    "mlp.fc1": "intermediate.dense",
    "mlp.fc2": "output.dense",
    "mlp.gate_proj": "mlp.weights_in",
    "mlp.down_proj": "mlp.weights_out",
}


def family_of(tensors: Tensors) -> str:
    """Returns the `model_type` whose file it is, as its tensors tell it."""
    if any(name.endswith("layer_scale1.lambda1") for name in tensors.names()):
        registers = tensors.has("embeddings.register_tokens")
        return "dinov2_with_registers" if registers else "dinov2"
    if tensors.has("embeddings.distillation_token"):
        return "deit"
    everything = tensors.outside().names()
    mae = any(name.startswith("decoder.decoder_embed") for name in everything)
    return "vit_mae" if mae else "vit"


def parts_of(tensors: Tensors, pools: bool = True) -> Parts:
    """Returns the network of a file of ViT, DeiT, ViTMAE or Dinov2.

    Args:
        tensors: View under the prefix of the backbone.
        pools: Whether a square `pooler.dense` is followed by tanh.

    Raises:
        ValueError: If a tensor is not there, or has another shape.
    """
    patch = tensors.patches("embeddings.patch_embeddings.projection")
    width = patch.first.shape[-1]
    registers = []
    if tensors.has("embeddings.distillation_token"):
        registers.append(tensors.take("embeddings.distillation_token", width))
    if tensors.has("embeddings.register_tokens"):
        registers += list(tensors.take("embeddings.register_tokens", None, width))
    blocks, hidden = [], None
    for name in tensors.blocks(r"(?:encoder\.layer|encoder\.layers|layers)\.(\d+)\."):
        blocks.append(_block(tensors.under(name), width, hidden))
        hidden = blocks[-1].hidden.first.shape[1]
    pooling, logits, representation = "token", None, None
    head = tensors.outside()
    if head.has("cls_classifier.weight"):
        names = ("cls_classifier", "distillation_classifier")
        logits = folding.averaged(*(head.linear(n, width, None) for n in names))
        pooling = "token_and_register"
    elif head.has("classifier.weight"):
        inputs = head.take("classifier.weight").shape[-1]
        double = inputs == 2 * width
        logits = head.linear("classifier", 2 * width if double else width, None)
        pooling = "token_and_patches" if double else "token"
    elif pools and tensors.has("pooler.dense.weight"):
        square = tensors.take("pooler.dense.weight", None, width).shape[0] == width
        representation = (
            tensors.linear("pooler.dense", width, width) if square else None
        )
    return Parts(
        patch=patch,
        position=tensors.take("embeddings.position_embeddings", None, width),
        position_name=f"{tensors.prefix}embeddings.position_embeddings",
        blocks=tuple(blocks),
        norm=tensors.norm("layernorm", width),
        pooling=pooling,
        class_token=tensors.take("embeddings.cls_token", width),
        registers=tuple(registers),
        representation=representation,
        logits=logits,
    )


def _block(tensors, width, hidden):
    """Returns a `Block`; F is free where `hidden` is None."""

    def name(new):
        old = _VIT.get(new, new)
        return old if tensors.has(f"{old}.weight") else new

    def linear(new, inputs, outputs):
        return tensors.linear(name(new), inputs, outputs)

    def scale(number):
        return tensors.get(f"layer_scale{number}.lambda1", width)

    gate = None
    if tensors.has("mlp.weights_in.weight"):
        first, gate = folding.halves(
            linear("mlp.gate_proj", width, hidden and 2 * hidden)
        )
    elif tensors.has("mlp.gate_proj.weight"):
        first = linear("mlp.gate_proj", width, hidden)
        gate = linear("mlp.up_proj", width, first.first.shape[1])
    else:
        first = linear("mlp.fc1", width, hidden)
    down = "mlp.fc2" if gate is None else "mlp.down_proj"
    return Block(
        norm1=tensors.norm(name("norm1"), width),
        norm2=tensors.norm(name("norm2"), width),
        query=linear("attention.q_proj", width, width),
        key=linear("attention.k_proj", width, width),
        value=linear("attention.v_proj", width, width),
        output=folding.scaled_output(
            linear("attention.o_proj", width, width), scale(1)
        ),
        hidden=first,
        outer=folding.scaled_output(
            linear(down, first.first.shape[1], width), scale(2)
        ),
        gate=gate,
    )
