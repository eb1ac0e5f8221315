"""The presets: a table of data. A preset is a config, never a class."""

from typing import Any

from widenet_keras.models.config import WideNetConfig
from widenet_keras.utils.checks import suggest

# What makes a WideNet a ViT or a ViT-MoE. Plain ViT reads its class token.
_VIT = {"sharing": "none", "moe_blocks": "none", "pooling": "token"}
_CYCLE = {"sharing": "cycle", "unique_blocks": 4}
_BASE = {"width": 768, "steps": 12, "heads": 12, "mlp_dim": 3072}
_LARGE = {"width": 1024, "steps": 24, "heads": 16, "mlp_dim": 4096}
_HUGE = {"width": 1280, "steps": 32, "heads": 16, "mlp_dim": 5120}
_SMALL_32 = {
    "image_size": 32,
    "patch_size": 4,
    "width": 192,
    "steps": 8,
    "heads": 4,
    "mlp_dim": 384,
    "expert_dim": 512,
    "num_classes": 10,
}
# "MiniViT" (arXiv 2204.07154): neighbours share a block, and each of them has mixes of
# heads and relative keys of its own. The published model starts with mixes near zero.
_MINI = {
    "sharing": "sequence",
    "moe_blocks": "none",
    "class_token": False,
    "pooling": "mean",
    "pieces": (
        {"kind": "relative_keys"},
        {"kind": "head_mix", "init": "published"},
    ),
}
_MINI_DEIT = {
    **_MINI,
    "steps": 12,
    "unique_blocks": 6,
    "activation": "gelu",
    "representation": False,
    "dropout": 0.0,
    "stochastic_depth": 0.1,
}
_DIGITS = {
    "image_size": 8,
    "channels": 1,
    "patch_size": 2,
    "width": 64,
    "steps": 3,
    "heads": 4,
    "mlp_dim": 128,
    "expert_dim": 128,
    "dropout": 0.0,
    "num_classes": 10,
}

PRESETS = {
    "widenet_b16": {**_BASE, "expert_dim": 4096},
    "widenet_l16": {**_LARGE, "expert_dim": 4096},
    "widenet_h16": {**_HUGE, "expert_dim": 5120},
    "vit_b16": {**_BASE, **_VIT},
    "vit_l16": {**_LARGE, **_VIT},
    "vit_moe_b16": {
        **_BASE,
        "expert_dim": 4096,
        "sharing": "none",
        "moe_blocks": (-2, -1),
    },
    "vit_moe_l16": {
        **_LARGE,
        "expert_dim": 4096,
        "sharing": "none",
        "moe_blocks": (-4, -3, -2, -1),
    },
    "widenet_small_32": _SMALL_32,
    "vit_small_32": {**_SMALL_32, **_VIT},
    "vit_moe_small_32": {**_SMALL_32, "sharing": "none", "moe_blocks": (-2, -1)},
    # "Recurrent multiple shared layers" (arXiv 2108.10417): the whole stack repeats,
    # norms and all, so that no weight depends on the number of steps.
    "rmsl_small_32": {**_SMALL_32, **_VIT, **_CYCLE, "shared_norms": True},
    # "Relaxed Recursive Transformers" (arXiv 2410.20672); ours keeps its norms too.
    "relaxed_small_32": {
        **_SMALL_32,
        **_VIT,
        **_CYCLE,
        "pieces": ({"kind": "lora", "rank": 8},),
    },
    "mini_deit_ti16": {**_MINI_DEIT, "width": 192, "heads": 3, "mlp_dim": 768},
    "mini_deit_s16": {**_MINI_DEIT, "width": 384, "heads": 6, "mlp_dim": 1536},
    "mini_deit_b16": {**_BASE, **_MINI_DEIT},
    "mini_deit_small_32": {**_SMALL_32, **_MINI, "unique_blocks": 4},
    # "Sliced Recursive Transformer" (arXiv 2111.05297) at one width: each block twice,
    # in more groups at first, and without groups in the later half.
    "sret_small_32": {
        **_SMALL_32,
        "sharing": "sequence",
        "unique_blocks": 4,
        "shared_norms": True,
        "moe_blocks": "none",
        "activation": "gelu",
        "class_token": False,
        "norm_after_pooling": True,
        "representation": False,
        "dropout": 0.0,
        "stochastic_depth": 0.1,
        "attention_groups": (4, 2, 4, 2, 1, 1, 1, 1),
        "pieces": ({"kind": "residual_scale"}, {"kind": "projection"}),
    },
    # After the abstract of "Multi-Path Transformer is Better" (arXiv 2305.05948): half
    # the steps of "vit_small_32", of two paths each. The paper's rules for selecting
    # features are not reproduced.
    "multipath_small_32": {**_SMALL_32, **_VIT, "steps": 4, "paths": 2},
    # "M6-T" (arXiv 2105.15082), of which the abstract was read and what others wrote:
    # one choice in each of two groups, the capacity of one choice, no balance loss.
    "m6t_small_32": {
        **_SMALL_32,
        "sharing": "none",
        "moe_blocks": (-2, -1),
        "num_experts": 8,
        "expert_dim": 256,
        "router": "grouped_top_1",
        "top_k": 2,
        "capacity_factor": 1.25 / 2,
        "balance_loss_weight": 0.0,
    },
    # "Recurrent Parameter Generators" (arXiv 2107.07110): a ring as long as the kernels
    # of 4 of the 8 blocks.
    "rpg_small_32": {**_SMALL_32, **_VIT, "ring_size": 1_179_648},
    "widenet_digits": _DIGITS,
    "vit_digits": {**_DIGITS, **_VIT},
    "vit_moe_digits": {**_DIGITS, "sharing": "none", "moe_blocks": (-2, -1)},
}


def presets() -> list[str]:
    """Returns the names of all presets."""
    return list(PRESETS)


def preset_config(preset: str, **fields: Any) -> WideNetConfig:
    """Returns the `WideNetConfig` of a preset.

    Args:
        preset: A name from `presets()`.
        **fields: Fields of `WideNetConfig` to override.

    Raises:
        ValueError: If there is no such preset or field, or a value does not fit.
    """
    if not isinstance(preset, str) or preset not in PRESETS:
        raise ValueError(
            f"There is no preset {preset!r}.{suggest(preset, PRESETS)} Presets: "
            f"{', '.join(PRESETS)}."
        )
    return WideNetConfig().replace(**{**PRESETS[preset], **fields})
