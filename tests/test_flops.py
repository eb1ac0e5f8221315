"""The cost formula against numbers worked out by hand."""

import widenet_keras
from widenet_keras import WideNetConfig, forward_flops


def test_a_small_model_by_hand():
    config = WideNetConfig(
        image_size=8, channels=1, patch_size=4, width=6, steps=2, heads=2, mlp_dim=5,
        num_experts=3, expert_dim=7, top_k=2, num_classes=10, moe_blocks="all",
    )  # fmt: skip
    # 4 patches and a class token: T = 5, D = 6, F = 7, E = 3, K = 2.
    attention = 8 * 5 * 36 + 4 * 25 * 6  # 2040
    routed = 2 * 4 * 5 * 6 * 7 + 2 * 5 * 6 * 3  # 1860
    embedding = 2 * 4 * 16 * 6  # 768
    head = 2 * 6 * 10 + 2 * 36  # 192
    assert forward_flops(config) == 2 * (attention + routed) + embedding + head == 8760
    dense = forward_flops(config.replace(moe_blocks="none"))
    assert dense == 2 * (attention + 4 * 5 * 6 * 5) + embedding + head
    plain = forward_flops(config.replace(representation=False, class_token=False))
    # T = 4: 2 * (1536 + 1488) + 768 + 120
    assert plain == 6936


def test_vit_b16_costs_what_is_published():
    # timm and DeiT give 17.6 GMACs (17.56 with T = 197), 35.1 GFLOPs.
    flops = forward_flops(widenet_keras.preset_config("vit_b16"))
    assert 35.0e9 < flops < 35.3e9
