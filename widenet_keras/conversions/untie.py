"""Every step of a model with a block of its own again."""

import numpy as np

from widenet_keras.conversions.cut import sized
from widenet_keras.conversions.low_rank import private_blocks
from widenet_keras.conversions.remade import check_model, remade
from widenet_keras.layers.sharing import PART_PLANS
from widenet_keras.models.config import WideNetConfig
from widenet_keras.models.frozen import weights_of_part
from widenet_keras.models.weights import (
    check_plain,
    read,
    weights_by_path,
    weights_of_blocks,
)
from widenet_keras.models.widenet import WideNet


def untie(model: WideNet) -> WideNet:
    """Returns a model that shares nothing and gives the same logits.

    ```python
    vit = widenet_keras.untie(widenet_keras.load_model("relaxed.keras"))
    ```

    Every step gets a copy of what it reads, with LoRA added to its products; so a
    relaxed model becomes a plain ViT again, and one whose kernels are read from a ring
    one with kernels. Other pieces belong to the steps and stay; of those that steps
    share with their block each gets a copy too.

    Args:
        model: A `WideNet` or `ImageClassifier` that shares blocks, a part or norms, has
            a ring (`ring_size`) or `step_widths`; steps of several widths get blocks of
            these.

    Returns:
        A new, uncompiled model of the same class and dtype policy, with
        `sharing="none"`; the same groups are frozen.

    Raises:
        ValueError: If the model shares nothing and has no `step_widths`, it is
            quantised, or steps that read a block again permute their tokens.
    """
    check_model("untie", model)
    check_plain("untie", model)
    if any(model.config.groups_of_steps.permuted):
        raise ValueError(
            f"untie: steps of {model.name} that read a block again attend in groups of "
            f"permuted tokens (attention_groups={model.config.attention_groups}), and "
            "with blocks of their own they would not; adapted(attention_groups=1) has "
            "no groups, and other logits."
        )
    if shares_nothing(model.config) and model.config.step_widths is None:
        raise ValueError(
            f"untie: the steps of {model.name} share nothing "
            f"(sharing={model.config.sharing!r}); to add LoRA to the products use "
            "merge()."
        )
    return apart(model)


def shares_nothing(config: WideNetConfig) -> bool:
    """Whether each step has a block of its own, and kernels of its own.

    Args:
        config: `WideNetConfig`.
    """
    own = tuple(range(config.steps))
    return config.ring_size is None and all(
        config.holders(part) == own for part in PART_PLANS
    )


def apart(model: WideNet) -> WideNet:
    """Returns the model whose steps share nothing, and that has no LoRA.

    Args:
        model: A `WideNet` or `ImageClassifier`, as `untie` takes or already apart.
    """
    config = model.config
    routed = config.routed_steps
    if len(routed) in (0, config.steps):
        routed = "all" if routed else "none"
    private = config.replace(
        sharing="none",
        unique_blocks=None,
        shared_norms=False,
        moe_blocks=routed,
        block_sizes=None,
        step_widths=None,
        nested_widths=(),
        nested_probabilities=None,
        ring_size=None,
        ring_seed=0,
        pieces=tuple(piece for piece in config.pieces if piece.kind != "lora"),
    )
    private = sized(private, config.sizes_of_steps).replace(
        nested_widths=config.nested_widths,
        nested_probabilities=config.nested_probabilities,
    )
    values = private_blocks(model)
    sources = weights_by_path(model)
    for part, norm in zip(PART_PLANS, ("norm1", "norm2"), strict=True):
        for name in ("gamma", "beta"):
            path = f"encoder/{norm}/{name}"
            rows = np.array(config.norm_rows(part))
            values[path] = read(sources[path])[rows]
    for path in weights_of_blocks(model):
        values[path] = read(sources[path])[np.array(config.block_of_step)]
    other = remade(model, private, values)
    parts = _frozen_of_steps(model)
    other.frozen = [part for part in parts if weights_of_part(other, part)]
    return other


def _frozen_of_steps(model):
    """Returns what is not trained where every step has a block of its own."""
    config, start, found = model.config, "encoder/block_", []
    for part in model.frozen:
        if not part.startswith(start):
            found.append(part)
            continue
        block, place = part.removeprefix(start).split("/", 1)
        holders = config.holders(place.split("/")[0])
        for step, each in enumerate(config.block_of_step):
            if holders[each] == int(block):
                found.append(f"{start}{step}/{place}")
    return found
