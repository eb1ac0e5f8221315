"""Smaller models out of one: what is taken, what it answers, and what it costs."""

import functools

import numpy as np
import pytest
from conftest import numpy, one_line, slow, tiny_images, tiny_model
from oracle import model_forward
from oracle import weights_by_path as exact_weights
from test_nested import HALF

import widenet_keras
from widenet_keras import BlockSize, LoRA, WideNetConfig, extract, forward_flops, untie
from widenet_keras.conversions.axes import HEADS, HIDDEN
from widenet_keras.conversions.cut import cut
from widenet_keras.models.description import describe, nested_parts
from widenet_keras.models.flops import feed_forward_flops
from widenet_keras.models.memory_use import parameter_count
from widenet_keras.models.weights import weights_by_path

IMAGES = tiny_images(3)
# What training draws besides the width is nothing.
QUIET = {"dropout": 0.0, "router_noise": 0.0, "capacity_factor": None}
DENSE = {"moe_blocks": "none"}
# Of rank 8 no product of 5 hidden units can be.
MODELS = {
    "vit": ("vit", {}),
    "gated": ("vit", {"gated": True, "activation": "quick_gelu"}),
    "widenet": ("widenet", {}),
    "vit_moe": ("vit_moe", {}),
    "shared": ("widenet", {**DENSE, "steps": 3}),
    "cycle": ("widenet", {"steps": 4, "sharing": "cycle", "unique_blocks": 2}),
    "one mixture": ("widenet", {"sharing": "feed_forward", "steps": 3}),
    "paths": ("vit", {"paths": 2, "cheap_features": "maximum", "gated": True}),
    "attention pooling": ("vit", {"pooling": "attention", "class_token": False}),
    "block sizes": ("vit", {"block_sizes": [(2, 5, 3, 8), (1, 4, 6, 10)]}),
    "lora": ("vit", {"gated": True, "pieces": [LoRA(8)]}),
    "lora, mixtures": ("vit_moe", {"moe_blocks": (0, 1), "pieces": [LoRA(8)]}),
    "lora, mixtures last": ("vit_moe", {"pieces": [LoRA(8)]}),
    "lora, shared": ("widenet", {**DENSE, "pieces": [LoRA(8)]}),
    "lora, low": ("widenet", {"pieces": [LoRA(3, experts="shared", bias=False)]}),
}
OFTEN = ("gated", "vit_moe", "lora", "lora, mixtures", "block sizes", "paths")
every_model = pytest.mark.parametrize(
    "name", [slow(name, when=name not in OFTEN) for name in MODELS]
)


@functools.cache
def nested(name):
    """Returns a model of which training computes with half of the hidden units.

    It is built once, so nobody may change it.
    """
    kind, fields = MODELS[name]
    return tiny_model(kind, **{**QUIET, **HALF, **fields})


def corners(model, config):
    """Returns a model with the first entries of each weight that another one has."""
    other = widenet_keras.ImageClassifier(config)
    theirs = weights_by_path(model)
    for path, weight in weights_by_path(other).items():
        corner = tuple(map(slice, weight.shape))
        weight.assign(numpy(theirs[path])[corner])
    return other


def assert_same(found, wanted):
    np.testing.assert_allclose(numpy(found), numpy(wanted), atol=2e-6)


@every_model
def test_it_is_what_training_computes_at_this_width(name):
    model = nested(name)
    wanted = model(IMAGES, training=True)
    assert np.abs(numpy(wanted) - numpy(model(IMAGES))).max() > 0.01
    small = extract(model, width=0.5)
    assert small.config.nested_widths == ()
    assert small.config.nested_probabilities is None
    assert_same(small(IMAGES), wanted)
    assert small.count_params() < model.count_params()
    assert forward_flops(small.config) < forward_flops(model.config)
    assert parameter_count(small.config.to_dict()) == small.count_params()
    # What `describe` says of it, before it is there.
    part, whole = nested_parts(model.config)
    for config, built in ((part, small), (whole, model)):
        assert parameter_count(config.to_dict()) == built.count_params()
        assert forward_flops(config) == forward_flops(built.config)
    lines = describe(model).splitlines()
    for width, built in ((0.5, small), (1.0, model)):
        said = f"  nested width {width}{built.count_params():>18,} parameters, "
        assert [line for line in lines if line.startswith(said)]
    assert "nested" not in describe(small)


def test_factors_have_no_higher_rank_than_the_units():
    model = nested("lora, mixtures")
    small = extract(model, width=0.5)
    shapes = {p.rpartition("/")[2]: w.shape for p, w in weights_by_path(small).items()}
    assert shapes["lora_hidden_down"] == (1, 12, 5)
    assert shapes["lora_hidden_up"] == shapes["lora_outer_down"] == (1, 5, 5)
    assert shapes["lora_outer_up"] == (1, 5, 12)
    assert shapes["lora_experts_hidden_up"] == (2, 4, 7, 7)
    assert shapes["lora_query_down"] == (3, 12, 8)
    assert small.config.pieces == model.config.pieces


def test_each_block_has_a_width_of_its_own():
    model = nested("vit_moe")
    small = extract(model, widths=[3, 0.5, np.int64(14)])
    sizes = [BlockSize(3, 4, 4, hidden) for hidden in (3, 7, 14)]
    wanted = model.config.replace(
        block_sizes=sizes, nested_widths=(), nested_probabilities=None
    )
    assert small.config == wanted
    assert_same(small(IMAGES), corners(model, wanted)(IMAGES))
    again = extract(small, widths=np.array([1.0, 1.0, 0.5]))
    assert [size.hidden for size in again.config.sizes] == [3, 7, 7]
    assert extract(small, width=3).config.block_sizes is None


@pytest.mark.parametrize(
    ("name", "widths", "most"),
    [
        ("shared", (3, 8, 0.5), 8),
        ("cycle", (7, 2, 3, 4), (7, 4)),
        slow("widenet", (14, 5), 14),
        slow("one mixture", (2, 0.5, 3), 7),
    ],
)
def test_each_step_of_a_shared_block_has_a_width_of_its_own(name, widths, most):
    model = nested(name)
    small = extract(model, widths=widths)
    units = tuple(
        round(width * size.hidden) if isinstance(width, float) else width
        for width, size in zip(widths, model.config.sizes_of_steps, strict=True)
    )
    assert small.config.step_widths == units
    most = most if isinstance(most, tuple) else (most,)
    assert {size.hidden for size in small.config.sizes} == set(most)
    config = model.config.replace(
        step_widths=units, nested_widths=(), nested_probabilities=None
    )
    wanted, _ = model_forward(exact_weights(model), config, IMAGES)
    np.testing.assert_allclose(numpy(small(IMAGES)), wanted, atol=1e-5)
    assert_same(untie(small)(IMAGES), small(IMAGES))


def test_equal_widths_of_the_steps_of_a_block_are_its_size():
    model = nested("cycle")
    by_steps, by_blocks = (extract(model, widths=w) for w in ((3, 5, 3, 5), (3, 5)))
    assert by_steps.config == by_blocks.config
    assert by_steps.config.step_widths is None
    assert [size.hidden for size in by_steps.config.sizes] == [3, 5]
    plain = extract(model, widths=(3, 3)).config
    assert (plain.expert_dim, plain.block_sizes) == (3, None)


def test_factors_of_steps_of_several_widths():
    model = nested("lora, shared")
    small = extract(model, widths=(3, 5))
    assert small.config.step_widths == (3, 5)
    masked = {"nested_widths": (), "nested_probabilities": None, "step_widths": (3, 5)}
    assert_same(small(IMAGES), model.adapted(**masked)(IMAGES))


def test_all_units_are_the_model_without_nested_widths():
    model = nested("gated").adapted()
    model.frozen = ("embedding", "encoder/block_1/feed_forward/hidden")
    model.class_names = list("abcde")
    for width in (1.0, 10):
        whole = extract(model, width=width)
        plain = {"nested_widths": (), "nested_probabilities": None}
        assert whole.config == model.config.replace(**plain)
        assert_same(whole(IMAGES), model(IMAGES))
    small = extract(model, width=0.3)
    assert small.config.mlp_dim == 3
    assert small.frozen == model.frozen
    assert small.class_names == model.class_names
    assert not small.compiled


def test_fewer_heads_leave_the_nested_widths():
    # A quarter of the 10 units that blocks without a table would have is no number.
    sizes = [(2, 5, 3, 8), (3, 4, 4, 8)]
    model = tiny_model("vit", block_sizes=sizes, nested_widths=(0.25, 1.0))
    small = cut(model, {(0, HEADS): np.array([1])}).config
    assert small.block_sizes == ((1, 5, 3, 8), (3, 4, 4, 8))
    assert small.nested_widths == (0.25, 1.0)
    assert cut(model, {(1, HIDDEN): np.arange(4)}).config.nested_widths == ()


def test_a_model_that_was_not_trained_for_it_in_half_precision():
    model = tiny_model("vit", dtype="mixed_bfloat16")
    small = extract(model, width=1)
    assert small.dtype_policy.name == "mixed_bfloat16"
    assert [size.hidden for size in small.config.sizes] == [1, 1]
    assert small(IMAGES).shape == (3, 5)


@pytest.mark.parametrize("name", ["vit", "gated", "widenet"])
def test_the_feed_forward_part_costs_as_much_less(name):
    model, routed = nested(name), name == "widenet"
    small = extract(model, width=0.5).config
    # Of 10 tokens of 12 numbers to 4 experts.
    router = 2 * 10 * 12 * 4 if routed else 0
    before, after = (
        feed_forward_flops(config, config.sizes[0], routed) - router
        for config in (model.config, small)
    )
    assert after * 2 == before
    saved = forward_flops(model.config) - forward_flops(small)
    assert saved == 2 * (before - after)


# "MatFormer", appendix: MatViT-B/16, whose class token has a position of its own.
MATVIT = {384: 36_989_416, 768: 44_071_912, 1536: 58_236_904, 3072: 86_566_888}


def test_parameters_of_matvit():
    config = widenet_keras.preset_config(
        "vit_b16", representation=False, nested_widths=(0.125, 0.25, 0.5, 1.0)
    )
    counts = [parameter_count(part.to_dict()) for part in nested_parts(config)]
    assert counts == list(MATVIT.values())
    for width, count in MATVIT.items():
        plain = config.replace(mlp_dim=width, nested_widths=())
        assert parameter_count(plain.to_dict()) == count


@pytest.mark.slow
def test_matvit_is_extracted():
    model = widenet_keras.ImageClassifier.from_preset("vit_b16", representation=False)
    small = extract(model, width=384)
    assert small.config == model.config.replace(mlp_dim=384)
    assert small.count_params() == MATVIT[384]


@pytest.mark.parametrize(("width", "count"), [(176, 5_161_608), (384, 22_737_128)])
def test_parameters_of_revit(width, count):
    """ "NViT": the rule of its pruned widths, here without a token to distil from."""
    few, keys = round(0.005 * width), 8 * round(0.05 * width / 8)
    end = (10, 2 * keys, 64, 3 * width)
    slim = (2 * few, keys, 64, 3 * width)
    middle = (4 * few, 2 * keys, 64, 6 * width)
    config = WideNetConfig(
        width=width,
        heads=16,
        sharing="none",
        moe_blocks="none",
        pooling="token",
        representation=False,
        block_sizes=[end, slim, slim, *[middle] * 6, slim, slim, end],
    )
    assert parameter_count(config.to_dict()) == count


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("vit", {}, ["neither width nor widths", "width=0.25"]),
        ("vit", {"width": 0.5, "widths": (0.5, 1)}, ["width=0.5 and widths=(0.5, 1)"]),
        ("vit", {"width": 0}, ["width=0 ", "(0, 1]", "1 to 10"]),
        ("vit", {"width": -3}, ["width=-3 "]),
        ("vit", {"width": 0.0}, ["width=0.0 "]),
        ("vit", {"width": 1.5}, ["width=1.5 "]),
        ("vit", {"width": float("nan")}, ["width=nan "]),
        ("vit", {"width": "half"}, ["width='half' "]),
        ("vit", {"width": True}, ["width=True "]),
        ("vit", {"width": (0.5,)}, ["width=(0.5,) "]),
        ("vit", {"width": 11}, ["width=11 is more than the 10 hidden units"]),
        ("vit", {"width": 0.25}, ["width=0.25 is 2.5 of 10", "0.2 or 0.3"]),
        ("vit", {"width": 0.01}, ["width=0.01 is 0.1 of 10", "such as 0.1."]),
        ("vit_moe", {"width": 11}, ["width=11 is more than the 10 "]),
        ("vit", {"widths": (0.5, 11)}, ["widths[1]=11 is more than the 10 "]),
        ("vit", {"widths": (0.5, None)}, ["widths[1]=None "]),
        ("vit", {"widths": 0.5}, ["widths=0.5 ", "2 unique blocks or 2 steps"]),
        ("vit", {"widths": ()}, ["widths has 0", "2 unique blocks and 2 steps"]),
        ("cycle", {"widths": (1, 1, 1)}, ["has 3", "2 unique blocks and 4 steps"]),
        ("lora", {"widths": (3, 5)}, ["3 and 5 hidden units", "(lora)", "merge()"]),
        ("lora, mixtures", {"widths": (3, 5, 10)}, ["3 and 5", "untie()"]),
    ],
)
def test_what_does_not_fit_is_one_line(name, arguments, said):
    refused(nested(name), arguments, said)


def test_other_models_are_refused_with_one_line():
    model = tiny_model("widenet", step_widths=(14, 7))
    refused(model, {"width": 0.5}, ["step_widths=(14, 7)", "untie() it first"])
    assert extract(untie(model), width=7).config.expert_dim == 7
    refused(IMAGES, {"width": 0.5}, ["a ndarray is not a model"])
    bank = tiny_model("vit", pieces=[LoRA(8, bank=2)])
    refused(bank, {"width": 0.5}, ["rank 8", "2 copies", "5 hidden units", "merge()"])
    assert extract(bank, width=0.8).config.mlp_dim == 8
    int8 = tiny_model("vit")
    # As quantize() leaves it, which takes long.
    int8.quantization = "int8"
    refused(int8, {"width": 0.5}, ["quantised to 'int8'"])


def refused(model, arguments, pieces):
    """Expects a `ValueError` of one line that has all the pieces."""
    with pytest.raises(ValueError) as error:  # noqa: PT011
        extract(model, **arguments)
    line = one_line(error)
    assert line.startswith("extract: ")
    assert [piece for piece in pieces if piece not in line] == [], line


def test_the_command(tmp_path, capsys):
    pytest.importorskip("tyro")
    from test_cli import stopped
    from test_cli_conversions import converted

    source, output = tmp_path / "nested.keras", tmp_path / "small.keras"
    nested("vit").save(source)
    words = ["extract", str(source), "--output", str(output)]
    printed = converted(capsys, *words, "--width", 0.5)
    assert "nested width 0.5" in printed
    assert "exact: what the model computes with these hidden units alone" in printed
    assert widenet_keras.load_model(output).config.mlp_dim == 5
    converted(capsys, *words, "--widths", 0.5, 3)
    sizes = widenet_keras.load_model(output).config.sizes
    assert [size.hidden for size in sizes] == [5, 3]
    for more, status, said in (
        ([], 1, "--widths"),
        (["--width", "0.5", "--widths", "3", "3"], 1, "--widths"),
        (["--width", "0.25"], 1, "widenet extract: width=0.25 is 2.5 of 10"),
        (["--width", "half"], 2, "--width"),
        (["--widths", "3", "3", "3"], 1, "2 unique blocks"),
    ):
        stopped(capsys, [*words, *more], status, said)
