"""The cost formula against numbers worked out by hand."""

import widenet_keras
from widenet_keras import WideNetConfig, forward_flops
from widenet_keras.layers.pieces import KINDS
from widenet_keras.models import piece_flops


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


def test_pieces_by_hand():
    """T = 5, D = 6, F = 7, E = 3, K = 2; steps 1 and 3 of four are dense, with 5."""
    config = WideNetConfig(
        image_size=8, channels=1, patch_size=4, width=6, steps=4, heads=2, mlp_dim=5,
        num_experts=3, expert_dim=7, top_k=2, num_classes=10, moe_blocks=(0,),
        sharing="cycle", unique_blocks=2,
    )  # fmt: skip
    plain = forward_flops(config)

    def more(**piece):
        return forward_flops(config.replace(pieces=[piece])) - plain

    assert more(kind="bottleneck", rank=2) == 4 * 4 * 5 * 6 * 2
    assert more(kind="key_value_prompt", count=2) == 4 * 4 * 5 * 2 * 6
    assert more(kind="residual_scale") == 0
    # int(0.8 * 6) hidden units.
    assert more(kind="projection", ratio=0.8) == 4 * 4 * 5 * 6 * 4
    prompts = 4 * (4 * 3 * 36 + 4 * 5 * 3 * 6)
    assert more(kind="prompt", count=3) == prompts
    # H = 2, h = 3; a class token has a bucket of its own.
    assert more(kind="head_mix") == 4 * 2 * 2 * 5 * 5 * 2 * 2
    assert more(kind="relative_keys", buckets=3) == 4 * 2 * 5 * 2 * 3 * (9 + 1)
    attention = 4 * 4 * 2 * 5 * 2 * (6 + 6)
    dense, experts = (2 * 2 * 2 * 5 * 2 * (6 + f) for f in (5, 7))
    assert more(kind="lora", rank=2) == attention + dense + 2 * experts
    # The rank of a router is at most E.
    assert more(kind="lora", rank=4, on=["router"]) == 2 * 2 * 5 * 3 * (6 + 3)
    # A step that takes 2 of 5 units has factors of the rank that its block has.
    narrow = config.replace(moe_blocks="none", step_widths=(2, 5, 2, 5))
    hidden = [{"kind": "lora", "rank": 4, "on": ["hidden"]}]
    found = forward_flops(narrow.replace(pieces=hidden)) - forward_flops(narrow)
    assert found == 2 * 5 * 4 * 2 * ((6 + 2) + (6 + 5))
    # Prompts pass the products of keys and values.
    both = [{"kind": "prompt", "count": 3}, {"kind": "lora", "rank": 2, "on": ["key"]}]
    found = forward_flops(config.replace(pieces=both)) - plain
    assert found == prompts + 4 * 2 * (5 + 3) * 2 * (6 + 6)
    # Heads are mixed over these keys too.
    both = [{"kind": "prompt", "count": 3}, {"kind": "head_mix"}]
    found = forward_flops(config.replace(pieces=both)) - plain
    assert found == prompts + 4 * 2 * 2 * 5 * (5 + 3) * 2 * 2
    grid = config.replace(class_token=False)
    conv = grid.replace(pieces=[{"kind": "token_conv", "size": 3}])
    assert forward_flops(conv) - forward_flops(grid) == 4 * 2 * 9 * 4 * 6


def test_groups_by_hand():
    """T = 4: the products of tokens with tokens, 4 T^2 D, become a G-th."""
    config = WideNetConfig(
        image_size=8, channels=1, patch_size=4, width=6, steps=3, heads=2, mlp_dim=5,
        moe_blocks="none", class_token=False, num_classes=10,
    )  # fmt: skip
    groups = config.replace(attention_groups=(1, 2, 4))
    saved = 4 * 16 * 6 * (1 / 2 + 3 / 4)
    assert forward_flops(config) - forward_flops(groups) == saved
    # Prompts are keys of every group.
    prompts = [
        forward_flops(c.replace(pieces=[{"kind": "prompt", "count": 3}]))
        - forward_flops(c)
        for c in (config, groups)
    ]
    assert prompts[0] == prompts[1]


def test_every_kind_of_piece_is_counted():
    assert piece_flops._OF_KINDS.keys() == KINDS.keys()


def test_vit_b16_costs_what_is_published():
    # timm and DeiT give 17.6 GMACs (17.56 with T = 197), 35.1 GFLOPs.
    flops = forward_flops(widenet_keras.preset_config("vit_b16"))
    assert 35.0e9 < flops < 35.3e9
