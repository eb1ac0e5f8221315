"""What `study.py` compares: one row per variant, and sizes of models and trainings."""

import dataclasses

VIT = {"sharing": "none", "moe_blocks": "none", "pooling": "token"}
VARIANTS = {
    # The three of the paper, at equal width and depth.
    "vit": lambda base: VIT,
    "vit_moe": lambda base: {"sharing": "none", "moe_blocks": (-2, -1)},
    "widenet": lambda base: {},
    # As WideNet-L to ViT-B: with one block for all steps, depth costs norms only.
    "deeper": lambda base: {"steps": 2 * base["steps"]},
    # The paper's first ablation.
    "shared_norms": lambda base: {"shared_norms": True},
    # Half as deep, with a width that costs a tenth more.
    "wider_shallower": lambda base: {
        "steps": base["steps"] // 2,
        "width": base["width"] * 3 // 2,
        "expert_dim": base["expert_dim"] * 3 // 2,
    },
    # ViT reads its class token, the others the mean of all tokens.
    "vit_mean_pooling": lambda base: {**VIT, "pooling": "mean"},
    "one_dense_expert": lambda base: {"moe_blocks": "none"},
    "not_shared": lambda base: {"sharing": "none"},
    "two_groups": lambda base: {"sharing": "sequence", "unique_blocks": 2},
    "experts_2": lambda base: {"num_experts": 2},
    "experts_8": lambda base: {"num_experts": 8},
    "top_1": lambda base: {"top_k": 1},
    "grouped_top_1": lambda base: {"router": "grouped_top_1"},
    "no_balance_loss": lambda base: {"balance_loss_weight": 0.0},
}
# Those that are trained with three seeds, and their colours in the pictures.
MAIN = {
    "vit": "#d9822b",
    "vit_moe": "#b03a2e",
    "widenet": "#2f6fb5",
    "deeper": "#2f6fb5",
    "shared_norms": "#2f6fb5",
}
# What to compare seed by seed. First the claims of the paper, in which the first is the
# more accurate one, against ViT and ViT-MoE where it is deeper and wider than they are
# (WideNet-L and -H).
PAIRS = [
    ("widenet", "vit"),
    ("widenet", "vit_moe"),
    ("deeper", "vit"),
    ("deeper", "vit_moe"),
    ("widenet", "shared_norms"),
    # What else was varied: pooling, all but pooling, experts, sharing, their number.
    ("vit_mean_pooling", "vit"),
    ("widenet", "vit_mean_pooling"),
    ("widenet", "one_dense_expert"),
    ("widenet", "not_shared"),
    ("experts_8", "widenet"),
]


@dataclasses.dataclass(frozen=True)
class Budget:
    """Size of the models and length of the training."""

    fields: dict
    epochs: int
    batch_size: int


BUDGETS = {
    "smoke": Budget(
        {"width": 12, "steps": 4, "heads": 3, "mlp_dim": 12, "expert_dim": 16}, 1, 32
    ),
    # K experts of a token cost a little less than the MLP of a ViT.
    "cpu": Budget(
        {
            "image_size": 35,
            "patch_size": 7,
            "width": 96,
            "steps": 6,
            "heads": 4,
            "mlp_dim": 384,
            "expert_dim": 176,
        },
        26,
        64,
    ),
    # Experts as wide as the MLP of a ViT, as in WideNet-L.
    "gpu": Budget(
        {
            "image_size": 35,
            "patch_size": 7,
            "width": 256,
            "steps": 12,
            "heads": 4,
            "mlp_dim": 768,
            "expert_dim": 768,
        },
        60,
        512,
    ),
}
