"""The config validates itself, and the presets are the paper's models."""

import dataclasses
import json
import math

import pytest
from conftest import one_line

from widenet_keras import ImageClassifier, WideNetConfig, preset_config, presets
from widenet_keras.models.memory_use import built_size

WHOLE = "must be a whole number >= 1"
RATE = "must be a number in [0.0, 1.0)"
WEIGHT = "must be a number >= 0.0"
FLAG = "must be True or False"
TWO = {"representation": False}

# Fields -> pieces of the one line that they are met with.
WRONG = [
    ({"image_size": 0}, ["image_size=0", WHOLE]),
    ({"image_size": 224.0}, ["image_size=224.0", WHOLE]),
    ({"channels": 0}, ["channels=0", WHOLE]),
    ({"patch_size": -16}, ["patch_size=-16", WHOLE]),
    ({"width": "768"}, ["width='768'", WHOLE]),
    ({"steps": 0}, ["steps=0", WHOLE]),
    ({"steps": True}, ["steps=True", WHOLE]),
    ({"heads": 0}, ["heads=0", WHOLE]),
    ({"mlp_dim": 0}, ["mlp_dim=0", WHOLE]),
    ({"num_experts": 0}, ["num_experts=0", WHOLE]),
    ({"expert_dim": None}, ["expert_dim=None", WHOLE]),
    ({"top_k": 0}, ["top_k=0", WHOLE]),
    ({"images_per_group": 0}, ["images_per_group=0", WHOLE]),
    ({"num_classes": -1}, ["num_classes=-1", "must be a whole number >= 0"]),
    ({"dropout": 1.0}, ["dropout=1.0", RATE]),
    ({"dropout": "0.1"}, ["dropout='0.1'", RATE]),
    ({"attention_dropout": -0.1}, ["attention_dropout=-0.1", RATE]),
    ({"stochastic_depth": math.nan}, ["stochastic_depth=nan", RATE]),
    ({"router_noise": -1.0}, ["router_noise=-1.0", WEIGHT]),
    ({"balance_loss_weight": math.inf}, ["balance_loss_weight=inf", WEIGHT]),
    ({"router_z_loss_weight": None}, ["router_z_loss_weight=None", WEIGHT]),
    ({"shared_norms": 1}, ["shared_norms=1", FLAG]),
    ({"class_token": None}, ["class_token=None", FLAG]),
    ({"representation": "yes"}, ["representation='yes'", FLAG]),
    ({"capacity_factor": 0}, ["capacity_factor=0", "None to drop nothing"]),
    ({"capacity_factor": -1.2}, ["capacity_factor=-1.2", "must be a number over 0"]),
    ({"router": "topk"}, ["router='topk'", "mean 'top_k'?", "'grouped_top_1'"]),
    ({"pooling": "max"}, ["pooling='max'", "'mean', 'token'"]),
    ({"activation": "gelu_tan"}, ["activation='gelu_tan'", "mean 'gelu_tanh'?"]),
    ({"activation": None}, ["activation=None", "'relu'"]),
    ({"output_activation": "tanh"}, ["output_activation='tanh'", "None, 'gelu_tanh'"]),
    ({"sharing": "sequense"}, ["sharing='sequense'", "mean 'sequence'?"]),
    ({"patch_size": 15}, ["image_size=224", "not divisible by patch_size=15"]),
    ({"heads": 7}, ["width=768", "not divisible by heads=7"]),
    (
        {"pooling": "token", "class_token": False},
        ["pooling='token' needs class_token=True", "pooling='mean'"],
    ),
    (
        {"pooling": "token_and_patches", "class_token": False, **TWO},
        ["pooling='token_and_patches' needs class_token=True", "pooling='mean'"],
    ),
    (
        {"pooling": "token_and_register", **TWO},
        ["pooling='token_and_register' needs registers >= 1", "pooling='token'"],
    ),
    (
        {"pooling": "token_and_patches", "representation": True},
        ["representation=True", "'token_and_patches'", "representation=False"],
    ),
    ({"registers": -1}, ["registers=-1", "must be a whole number >= 0"]),
    ({"norm_epsilon": 0}, ["norm_epsilon=0", "must be a number over 0"]),
    ({"norm_epsilon": math.nan}, ["norm_epsilon=nan", "must be a number over 0"]),
    ({"norm_epsilon": "1e-6"}, ["norm_epsilon='1e-6'", "must be a number over 0"]),
    ({"gated": 1}, ["gated=1", FLAG]),
    ({"gated": True}, ["gated=True", "moe_blocks='all'", "moe_blocks='none'"]),
    ({"embedding_norm": "yes"}, ["embedding_norm='yes'", FLAG]),
    ({"norm_after_pooling": None}, ["norm_after_pooling=None", FLAG]),
    (
        {"norm_after_pooling": True, "pooling": "token"},
        ["norm_after_pooling=True", "'patches'", "not for 'token'"],
    ),
    ({"top_k": 5}, ["top_k=5 is more than num_experts=4", "from 1 to 4"]),
    (
        {"router": "grouped_top_1", "top_k": 3},
        ["num_experts=4", "top_k=3", "divides num_experts"],
    ),
    ({"engine": "fast"}, ["engine='fast'", "'auto'", "'sorted'", "'one_hot'"]),
    ({"scan": True}, ["scan=True", "'auto', 'always', 'never'"]),
    ({"remat": "half"}, ["remat='half'", "'none', 'full'"]),
    ({"sharing": "sequence"}, ["sharing='sequence' needs unique_blocks", "12 steps"]),
    ({"sharing": "cycle"}, ["sharing='cycle' needs unique_blocks"]),
    (
        {"sharing": "sequence", "unique_blocks": 5},
        ["unique_blocks=5 does not divide steps=12"],
    ),
    (
        {"sharing": "cycle", "unique_blocks": 13},
        ["unique_blocks=13 is more than steps=12", "at most 12"],
    ),
    ({"sharing": "cycle", "unique_blocks": 0}, ["unique_blocks=0", WHOLE]),
    (
        {"sharing": "attention", "unique_blocks": 5},
        ["unique_blocks=5 does not divide steps=12", "sharing='attention'"],
    ),
    (
        {"sharing": "feed_forward", "moe_blocks": (-2, -1)},
        ["only one of the blocks 0 and 10", "sharing='feed_forward'"],
    ),
    ({"unique_blocks": 2}, ["unique_blocks=2 contradicts sharing='all'", "has 1"]),
    (
        {"sharing": "none", "unique_blocks": 3},
        ["unique_blocks=3 contradicts sharing='none'", "has 12"],
    ),
    ({"moe_blocks": "some"}, ["moe_blocks='some'", "'all', 'none'"]),
    ({"moe_blocks": (1,)}, ["moe_blocks=(1,)", "from -1 to 0"]),
    (
        {"sharing": "none", "moe_blocks": (-13,)},
        ["moe_blocks=(-13,)", "from -12 to 11", "12 unique blocks"],
    ),
    ({"moe_blocks": (True,)}, ["moe_blocks=(True,)", "from -1 to 0"]),
    ({"moe_blocks": (0.0,)}, ["moe_blocks=(0.0,)", "from -1 to 0"]),
    ({"moe_blocks": 0}, ["moe_blocks=0", "tuple"]),
    ({"moe_blocks": None}, ["moe_blocks=None", "tuple"]),
    (
        {"block_sizes": [(2, 8, 8)]},
        ["block_sizes[0]=(2, 8, 8)", "four numbers", "key_dim"],
    ),
    ({"block_sizes": ()}, ["block_sizes=()", "each unique block"]),
    ({"block_sizes": [(0, 8, 8, 8)]}, ["block_sizes[0] heads=0", WHOLE]),
    ({"block_sizes": [(1, 8, 8, 8)] * 2}, ["2 sizes", "1 unique blocks"]),
    (
        {
            "sharing": "attention",
            "block_sizes": [(1, 8, 8, 8)] * 11 + [(2, 8, 8, 8)],
        },
        ["blocks 0 and 11", "(1, 8, 8) and (2, 8, 8)", "attention"],
    ),
    ({"step_widths": (8,)}, ["step_widths=(8,)", "12 steps"]),
    ({"step_widths": (0,) * 12}, ["step_widths[0]=0", WHOLE]),
    (
        {"step_widths": (8, 4097) + (8,) * 10},
        ["step_widths[1]=4097", "4096 hidden units"],
    ),
    ({"nested_widths": (0.5,)}, ["nested_widths=(0.5,)", "ascend to 1.0"]),
    ({"nested_widths": (0.5, 0.25, 1.0)}, ["ascend to 1.0"]),
    ({"nested_widths": 0.5}, ["nested_widths=0.5", "ascend to 1.0"]),
    (
        {"nested_widths": (0.3, 1.0)},
        ["0.3", "1228.8 of 4096", "0.299805 or 0.300049"],
    ),
    (
        {"nested_widths": (0.5, 1.0), "step_widths": (8,) * 12},
        ["nested_widths", "step_widths=(8, "],
    ),
    (
        {"nested_widths": (0.5, 1.0), "nested_probabilities": (0.5, 0.4)},
        ["nested_probabilities=(0.5, 0.4)", "add up to 1"],
    ),
    ({"nested_probabilities": (1.0,)}, ["nested_widths=()", "ascend to 1.0"]),
    ({"attention_groups": 0}, ["attention_groups=0", WHOLE]),
    ({"attention_groups": (4,) * 11}, ["11 numbers", "12 steps"]),
    ({"attention_groups": [4] * 11 + [True]}, ["attention_groups[11]=True", WHOLE]),
    (
        {"attention_groups": 8, "class_token": False, "image_size": 80},
        ["attention_groups=8 does not divide the 25 tokens", "such as 5"],
    ),
    (
        {"attention_groups": 8, "image_size": 448},
        ["attention_groups=8", "class token", "class_token=False"],
    ),
    (
        {"attention_groups": 8, "class_token": False, "registers": 1},
        ["attention_groups=8", "registers=0"],
    ),
    ({"paths": 0}, ["paths=0", WHOLE]),
    ({"paths": 2.0}, ["paths=2.0", WHOLE]),
    ({"paths": 2}, ["paths=2", "moe_blocks='all'", "num_experts", "moe_blocks='none'"]),
    (
        {"paths": 2, "moe_blocks": "none", "pieces": [{"kind": "lora"}]},
        ["pieces has 'lora'", "paths=2", "paths=1"],
    ),
    ({"cheap_features": "maximum"}, ["cheap_features='maximum'", "paths=1", "paths=2"]),
    ({"cheap_features": "minimum"}, ["cheap_features='minimum'", "'maximum'"]),
    ({"ring_size": 0}, ["ring_size=0", WHOLE]),
    ({"ring_size": 9}, ["ring_size=9", "sharing is 'all'", "use sharing='none'"]),
    ({"ring_seed": -1}, ["ring_seed=-1 must be a whole number >= 0"]),
    ({"pieces": "lora"}, ["pieces='lora'", "list of pieces"]),
    ({"pieces": [3]}, ["pieces has 3", "a dict with a 'kind'"]),
    ({"pieces": [{"kind": "telescope"}]}, ["kind='telescope'"]),
]


@pytest.mark.parametrize(("fields", "pieces"), WRONG, ids=lambda value: str(value)[:40])
def test_a_wrong_field_is_named_with_its_value(fields, pieces):
    for make in (WideNetConfig, WideNetConfig().replace):
        with pytest.raises(ValueError, match=r"^WideNetConfig: ") as error:
            make(**fields)
        line = one_line(error)
        assert [piece for piece in pieces if piece not in line] == [], line


def test_every_field_is_validated():
    tried = {name for fields, _ in WRONG for name in fields}
    assert tried == {field.name for field in dataclasses.fields(WideNetConfig)}


@pytest.mark.parametrize(
    "fields",
    [
        {"capacity_factor": None},
        {"capacity_factor": 2},
        {"output_activation": "gelu_tanh"},
        {"top_k": 4},
        {"router": "grouped_top_1", "top_k": 4},
        {"unique_blocks": 1},
        {"sharing": "none", "unique_blocks": 12},
        {"sharing": "cycle", "unique_blocks": 5},
        {"sharing": "sequence", "unique_blocks": 12},
        {"moe_blocks": ()},
        {"dropout": 0},
        {"num_classes": 0},
        {"norm_epsilon": 1},
        {"gated": True, "moe_blocks": ()},
        {"registers": 4, "class_token": False},
        {"paths": 3, "cheap_features": "maximum", "moe_blocks": ()},
        {"pooling": "token_and_register", "registers": 1, "representation": False},
        {"pooling": "patches", "class_token": False, "norm_after_pooling": True},
        {"attention_groups": 196, "class_token": False},
    ],
    ids=str,
)
def test_edges_that_are_allowed(fields):
    config = WideNetConfig(**fields)
    assert {name: getattr(config, name) for name in fields} == fields


def test_config_is_frozen_and_keyword_only():
    with pytest.raises(dataclasses.FrozenInstanceError):
        WideNetConfig().width = 12
    with pytest.raises(TypeError):
        WideNetConfig(224)


def test_replace_changes_a_copy():
    config = WideNetConfig()
    other = config.replace(width=24, heads=3)
    assert (other.width, other.heads) == (24, 3)
    assert config == WideNetConfig()
    assert other.replace(width=768, heads=12) == config


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("num_class", "num_classes"), ("experts", "num_experts"), ("droput", "dropout")],
)
def test_replace_with_an_unknown_field_suggests_the_nearest(name, nearest):
    with pytest.raises(ValueError, match=f"no field '{name}'") as error:
        WideNetConfig().replace(**{name: 1})
    assert f"Did you mean {nearest!r}?" in one_line(error)


def test_a_list_of_moe_blocks_becomes_a_tuple():
    config = WideNetConfig(sharing="none", moe_blocks=[-1, 0])
    assert config.moe_blocks == (-1, 0)
    assert config == WideNetConfig(sharing="none", moe_blocks=(-1, 0))
    assert isinstance(hash(config), int)


@pytest.mark.parametrize("preset", presets())
def test_to_dict_survives_json(preset):
    config = preset_config(preset)
    fields = json.loads(json.dumps(config.to_dict()))
    assert fields == config.to_dict()
    assert WideNetConfig(**fields) == config


# (sharing, U, moe_blocks) of 6 steps -> block of each step, routed blocks and steps.
PLANS = [
    (("none", None, (-2, 0)), (0, 1, 2, 3, 4, 5), (0, 4), (0, 4)),
    (("none", None, "all"), (0, 1, 2, 3, 4, 5), (0, 1, 2, 3, 4, 5), (0, 1, 2, 3, 4, 5)),
    (("none", None, "none"), (0, 1, 2, 3, 4, 5), (), ()),
    (("all", None, "all"), (0,) * 6, (0,), (0, 1, 2, 3, 4, 5)),
    (("all", None, (-1, 0)), (0,) * 6, (0,), (0, 1, 2, 3, 4, 5)),
    (("all", None, ()), (0,) * 6, (), ()),
    (("sequence", 3, (-1,)), (0, 0, 1, 1, 2, 2), (2,), (4, 5)),
    (("sequence", 2, "all"), (0, 0, 0, 1, 1, 1), (0, 1), (0, 1, 2, 3, 4, 5)),
    (("cycle", 3, (-1, 0)), (0, 1, 2, 0, 1, 2), (0, 2), (0, 2, 3, 5)),
    (("cycle", 4, (1,)), (0, 1, 2, 3, 0, 1), (1,), (1, 5)),
    (("attention", None, (-1,)), (0, 1, 2, 3, 4, 5), (5,), (5,)),
    (("feed_forward", 3, (-2, -1)), (0, 1, 2, 3, 4, 5), (4, 5), (4, 5)),
]


@pytest.mark.parametrize(("plan", "blocks", "routed_blocks", "routed_steps"), PLANS)
def test_which_block_each_step_reads(plan, blocks, routed_blocks, routed_steps):
    sharing, unique, moe_blocks = plan
    config = WideNetConfig(
        steps=6, sharing=sharing, unique_blocks=unique, moe_blocks=moe_blocks
    )
    assert config.block_of_step == blocks
    assert config.num_unique_blocks == len(set(blocks))
    assert config.routed_blocks == routed_blocks
    assert config.routed_steps == routed_steps


def test_steps_that_share_a_part_share_its_experts_and_its_norm():
    config = WideNetConfig(steps=4, sharing="feed_forward", unique_blocks=2)
    assert config.routed_banks == (0, 0, 2, 2)
    assert config.norm_rows("feed_forward") == (0, 1, 2, 3)
    config = config.replace(shared_norms=True, moe_blocks=(2, -1))
    assert config.routed_banks == (2, 2)
    assert config.norm_rows("attention") == (0, 1, 2, 3)
    assert config.norm_rows("feed_forward") == (0, 0, 1, 1)


def test_derived_sizes():
    config = WideNetConfig(image_size=48, patch_size=16, channels=1)
    assert config.grid == (3, 3)
    assert (config.tokens, config.leading_tokens) == (10, 1)
    assert config.replace(registers=4, class_token=False).tokens == 13
    assert (config.outputs, config.replace(num_classes=0).outputs) == (1000, 768)
    assert config.image_shape == (48, 48, 1)


def test_presets_of_the_paper_and_small_ones():
    assert {*COUNTS, "widenet_small_32", "widenet_digits"} <= set(presets())
    assert len(presets()) == len(set(presets()))
    assert preset_config("widenet_b16") == WideNetConfig()


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("widenet_b_16", "widenet_b16"), ("vit_moe_b", "vit_moe_b16")],
)
def test_an_unknown_preset_suggests_the_nearest(name, nearest):
    with pytest.raises(ValueError, match=f"no preset '{name}'") as error:
        preset_config(name)
    line = one_line(error)
    assert f"Did you mean {nearest!r}?" in line
    assert all(preset in line for preset in presets())


def test_a_preset_with_an_unknown_field_suggests_the_nearest():
    with pytest.raises(ValueError, match="Did you mean 'num_classes'") as error:
        preset_config("widenet_b16", classes=10)
    one_line(error)


# Trainable parameters at 224 pixels and 1000 classes, of the authors' code.
COUNTS = {
    "widenet_b16": 29_690_600,
    "widenet_l16": 40_941_544,
    "widenet_h16": 63_341_800,
    "vit_b16": 87_157_480,
    "vit_l16": 305_375_208,
    "vit_moe_b16": 128_089_320,
    "vit_moe_l16": 406_116_328,
}


@pytest.mark.parametrize("preset", COUNTS)
@pytest.mark.usefixtures("without_values")
def test_parameter_count_of_the_paper(preset):
    model = ImageClassifier.from_preset(preset)
    count = sum(math.prod(weight.shape) for weight in model.trainable_weights)
    assert count == COUNTS[preset]


@pytest.mark.parametrize("moe_blocks", ["all", "none", [0, 1]])
def test_sizes_of_any_number_are_counted(moe_blocks):
    fields = {"steps": 10**30, "sharing": "none", "moe_blocks": moe_blocks}
    assert built_size(fields) > 10**30
