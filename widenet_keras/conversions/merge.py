"""Banks of adapters as one, and LoRA inside the products that it is added to."""

import dataclasses

import keras

from widenet_keras.conversions.remade import check_model, remade
from widenet_keras.conversions.untie import apart, shares_nothing
from widenet_keras.layers.shared_parts import sizes_of
from widenet_keras.models.config import WideNetConfig
from widenet_keras.models.weights import check_plain, weights_by_path
from widenet_keras.models.widenet import WideNet


def merge(model: WideNet) -> WideNet:
    """Returns a smaller model that gives the same logits at inference.

    ```python
    shipped = widenet_keras.merge(tuned)
    ```

    A bank of copies becomes their mean, which inference takes anyway ("AdaMix", arXiv
    2205.12410). Where steps share nothing, LoRA is added to the products
    and leaves `pieces`; a shared product has one kernel for many steps, so there it
    stays, and `untie` is the way.

    Args:
        model: A `WideNet` or `ImageClassifier` with banks, or that has LoRA and shares
            nothing.

    Returns:
        A new, uncompiled model of the same class and dtype policy; the same groups are
        frozen.

    Raises:
        ValueError: If there is nothing to merge, or the model is quantised.
    """
    check_model("merge", model)
    check_plain("merge", model)
    config = model.config
    has_lora = any(piece.kind == "lora" for piece in config.pieces)
    folds, banks = has_lora and shares_nothing(config), has_banks(config)
    if not banks and not folds:
        more = "; untie() takes LoRA of shared blocks." if has_lora else "."
        raise ValueError(
            f"merge: {model.name} has nothing to merge; give one with a bank of copies "
            f"(bank=2 or more), or with LoRA and blocks that no steps share{more}"
        )
    merged = without_banks(model) if banks else model
    return apart(merged) if folds else merged


def has_banks(config: WideNetConfig) -> bool:
    """Whether any piece of the steps is a bank of several copies.

    Args:
        config: `WideNetConfig`.
    """
    return any(getattr(piece, "bank", 1) > 1 for piece in config.pieces)


def without_banks(model: WideNet) -> WideNet:
    """Returns the model with the mean of every bank in its place.

    Args:
        model: A `WideNet` or `ImageClassifier`.
    """
    config, sources = model.config, weights_by_path(model)
    shape = None, config.tokens, config.width
    sizes = sizes_of(model.encoder.blocks, shape, config.pieces)
    pieces, values = [], {}
    for piece in config.pieces:
        if getattr(piece, "bank", 1) > 1:
            copies = piece.weights(sizes)
            piece = dataclasses.replace(piece, bank=1)
            for name, weight in piece.weights(sizes).items():
                if weight.shape != copies[name].shape:
                    path = f"encoder/pieces/{piece.kind}_{name}"
                    values[path] = keras.ops.mean(sources[path], axis=1)
        pieces.append(piece)
    return remade(model, config.replace(pieces=tuple(pieces)), values)
