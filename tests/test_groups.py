"""Attention in groups, and models of SReT: orders of tokens, counts, verbs, files."""

import collections
import functools
import time

import keras
import numpy as np
import pytest
from conftest import numpy, one_line, slow, tiny_config, tiny_images, tiny_model
from oracle_pieces import attends, order_at_inference
from test_relax import assert_same_logits, quietly

import widenet_keras
from widenet_keras import (
    Projection,
    ResidualScale,
    WideNetConfig,
    layers,
    relax,
    tie,
    untie,
)
from widenet_keras.conversions.costs import Costs
from widenet_keras.conversions.measure import measure_latency
from widenet_keras.layers.attention import attention
from widenet_keras.layers.groups import Groups, GroupsOfSteps
from widenet_keras.layers.plan import plans_of, segments_of
from widenet_keras.models.description import describe
from widenet_keras.models.flops import attention_flops
from widenet_keras.models.memory_use import parameter_count
from widenet_keras.models.weights import weights_by_path
from widenet_keras.models.widenet import WideNet
from widenet_keras.routing.random_draws import SILENT, RandomDraws
from widenet_keras.utils import numerics
from widenet_keras.utils.roles import role_of

PLAIN = {"moe_blocks": "none", "class_token": False}
# Steps 1 and 3 read their blocks again.
SEQUENCE = {**PLAIN, "steps": 4, "sharing": "sequence", "unique_blocks": 2}
SRET = {
    **SEQUENCE,
    "shared_norms": True,
    "pieces": (ResidualScale(), Projection(0.5)),
    "attention_groups": (9, 3, 3, 1),
}
# No step that reads a block again has groups.
UNTIED = {**SRET, "attention_groups": (9, 1, 3, 1)}


def orders(groups, blocks, draws=SILENT, tokens=9):
    """Returns the orders of the tokens in a pass."""
    return numpy(GroupsOfSteps.of("Model", groups, blocks).orders(draws, tokens))


def test_the_orders_of_inference_are_the_same_everywhere():
    found = orders((1, 3, 3), (0, 0, 0))
    np.testing.assert_array_equal(found[0], [range(9)] * 2)
    # By hand: files of trained models depend on it.
    assert found[1, 0].tolist() == [7, 3, 1, 8, 0, 6, 4, 5, 2]
    for step in (1, 2):
        assert found[step, 0].tolist() == order_at_inference(step, 9)
        np.testing.assert_array_equal(found[step, 0][found[step, 1]], range(9))
    assert (found[1] != found[2]).any()
    assert GroupsOfSteps.of("Model", 3, (0, 1)).orders(SILENT, 9) == ()


def test_the_orders_of_training_are_drawn_once_for_a_batch():
    first, other, batch = (
        numerics.first_seed(keras.random.SeedGenerator(seed)) for seed in range(3)
    )
    found = [
        orders(3, (0, 1, 0, 1, 0), RandomDraws(*seeds))
        for seeds in ((first, 0, batch), (other, 0, batch), (first,))
    ]
    np.testing.assert_array_equal(found[0], found[1])
    assert (found[0] != found[2]).any()
    np.testing.assert_array_equal(found[0][:2], [[range(9)] * 2] * 2)
    assert len({tuple(order) for order in found[0][2:, 0].tolist()}) == 3
    for order, back in found[0]:
        np.testing.assert_array_equal(order[back], range(9))
        assert sorted(order) == [*range(9)]


def test_a_config_of_many_steps_takes_no_time():
    """A file may ask for as many; what each of them reads is looked up once."""
    start = time.process_time()
    tiny_config("vit", steps=20_000, sharing="all", attention_groups=1)
    assert time.process_time() - start < 0.5


def test_steps_without_an_order_of_their_own_end_no_loop():
    def plans(groups, blocks):
        return plans_of(blocks, groups=GroupsOfSteps.of("Model", groups, blocks))

    # The first round has no orders, the second one has.
    [loop] = segments_of(plans(3, (0, 1, 0, 1)))
    assert (loop.rounds, [plan.permutes for plan in loop.pattern]) == (2, [True] * 2)
    # What is never alike does without: a first read in other groups, one group.
    found = plans((9, 3, 3, 1), (0, 0, 1, 1))
    assert [plan.permutes for plan in found] == [False, True, False, False]


def test_tokens_of_a_group_may_change_places():
    layer = layers.Attention(3)
    tokens = np.random.default_rng(0).normal(size=(2, 6, 12)).astype("float32")
    layer.build(tokens.shape)

    def attended(tokens):
        with numerics.weights_as_stored() as read:
            how = (layer.read(read), layer.spec, SILENT)
            x = keras.ops.convert_to_tensor(tokens)
            return numpy(attention(x, *how, groups=Groups(2))[0])

    inside, across = [2, 0, 1, 3, 5, 4], [3, 1, 2, 0, 4, 5]
    wanted, found = attended(tokens), attended(tokens[:, inside])
    np.testing.assert_allclose(found, wanted[:, inside], atol=1e-6)
    difference = attended(tokens[:, across]) - wanted[:, across]
    assert np.abs(difference).max() > 1e-3


def test_prompts_of_an_image_go_to_its_own_groups():
    tokens = np.repeat([[[1.0]], [[2.0]]], 6, axis=1).astype("float32")
    groups = Groups(3)
    apart, prompts = (
        numpy(each(keras.ops.convert_to_tensor(rows)))
        for each, rows in ((groups.apart, tokens), (groups.for_each, tokens[:, :4]))
    )
    assert (apart.shape, prompts.shape) == ((6, 2, 1), (6, 4, 1))
    np.testing.assert_array_equal(prompts[:, 0], apart[:, 0])


def test_heads_that_are_looked_at_stay_in_order():
    """Step 1 sees the same tokens in three groups of another order, or in none."""
    fields = {**PLAIN, "steps": 2, "pooling": "mean"}
    model = tiny_model(**fields, attention_groups=(1, 3))
    tokens = np.random.default_rng(0).normal(size=(2, 9, 12)).astype("float32")
    found, wanted = (
        each.encoder(tokens, look_at=(1,))[2]
        for each in (model, model.adapted(attention_groups=1))
    )
    for one, other in zip(found.heads, wanted.heads, strict=True):
        assert tuple(one.shape) == (1, 2, 9, 3, 4)
        np.testing.assert_allclose(numpy(one), numpy(other), atol=1e-6)
    assert np.abs(numpy(found.tokens) - numpy(wanted.tokens)).max() > 1e-3


def test_a_change_reaches_the_tokens_of_its_group_alone():
    model = tiny_model(**PLAIN, attention_groups=3, steps=1)
    tokens = np.random.default_rng(0).normal(size=(1, 9, 12)).astype("float32")
    changed = tokens.copy()
    changed[:, 4] += 1
    outputs = [numpy(model.encoder(each)[0]) for each in (tokens, changed)]
    moved = np.abs(outputs[1] - outputs[0]).max(axis=(0, 2)) > 0
    np.testing.assert_array_equal(moved, attends(model.config, 0)[4])


def test_answers_do_not_depend_on_calls_or_batch_mates():
    model, images = tiny_model(**SRET), tiny_images(4)
    wanted = numpy(model(images))
    np.testing.assert_array_equal(numpy(model(images)), wanted)
    np.testing.assert_allclose(numpy(model(images[2:3])), wanted[2:3], atol=1e-6)


def test_training_draws_orders_for_steps_that_read_again():
    images = tiny_images(2)
    for fields, differ in ((SRET, True), (UNTIED, False)):
        model = tiny_model(**fields, dropout=0.0)
        one, other = (numpy(model(images, training=True)) for _ in range(2))
        assert (np.abs(one - other).max() > 1e-4) == differ


def test_half_precision_does_not_round_the_factors():
    factors = keras.ops.convert_to_tensor(np.full(4, 1.004, "float32"))
    w = collections.namedtuple("w", ResidualScale().weights(None))(factors)
    x = keras.ops.cast(np.full((1, 1, 2), 100.0), "bfloat16")
    for each in ResidualScale().residual(w, "feed_forward", x, x):
        assert keras.backend.standardize_dtype(each.dtype) == "bfloat16"
        assert (numpy(keras.ops.cast(each, "float32")) == 100.5).all()


@pytest.mark.parametrize("init", ["published", "identity"])
def test_an_mlp_starts_as_that_of_torch_or_as_no_change(init):
    pieces = (ResidualScale(), Projection(0.5, init))
    config = tiny_config(**{**SRET, "width": 48, "pieces": pieces})
    weights = weights_by_path(widenet_keras.ImageClassifier(config))
    start = "encoder/pieces/projection_"
    assert weights[f"{start}hidden_kernel"].shape == (4, 48, 24)
    for name, inputs in (("hidden", 48), ("outer", 24)):
        for part in ("kernel", "bias"):
            limit = inputs**-0.5 * (name == "hidden" or init == "published")
            largest = np.abs(numpy(weights[f"{start}{name}_{part}"])).max()
            assert 0.9 * limit <= largest <= limit
    assert (numpy(weights[f"{start}factors"]) == 1).all()
    factors = weights["encoder/pieces/residual_scale_factors"]
    assert factors.shape == (2, 4)
    for path in ("gamma", "beta", "factors", "hidden_bias"):
        role = role_of(weights[f"{start}{path}"])
        assert (role.decayed, role.exact) == (False, path != "hidden_bias")
    assert role_of(factors).exact
    assert not role_of(factors).decayed


# Encoders of the three stages (width, heads, MLP, steps, blocks), from the authors'
# SReT.py; what is no encoder (stem, positions, pools, norm and head) by hand.
STAGES = [(4, 2), (10, 5), (6, 3)]
PUBLISHED = {
    # Name: (size of a head, heads, ratio of the MLPs, of the projections, encoders,
    # what is no encoder).
    "T": (
        (32, (2, 4, 8), 3.6, 1),
        (127_068, 1_257_380, 3_003_363),
        (56_640, 50_176, 3_840, 257_512),
        4_755_979,
    ),
    "LT": (
        (32, (2, 4, 8), 4.0, 1),
        (133_776, 1_324_200, 3_161_880),
        (56_640, 50_176, 3_840, 257_512),
        4_988_024,
    ),
    "S": (
        (42, (3, 6, 12), 3.0, 2),
        (577_096, 5_743_120, 13_750_152),
        (216_972, 98_784, 7_560, 506_008),
        20_899_692,
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_numbers_of_parameters(name):
    (size, heads, ratio, projected), encoders, rest, total = PUBLISHED[name]
    for stage, (steps, blocks) in enumerate(STAGES):
        width, side = size * heads[stage], 28 // 2**stage
        config = WideNetConfig(
            image_size=side,
            patch_size=1,
            width=width,
            heads=heads[stage],
            mlp_dim=int(ratio * width),
            steps=steps,
            sharing="sequence",
            unique_blocks=blocks,
            shared_norms=True,
            pieces=[ResidualScale(), Projection(projected)],
            attention_groups=((8, 2), (4, 1), (1, 1))[stage] * blocks,
            num_classes=0,
            representation=False,
            **PLAIN,
        )
        embedding = (3 + 1 + side**2) * width
        count = parameter_count(config.to_dict()) - embedding - 2 * width
        assert count == encoders[stage]
        if width == 64 and name == "T":
            model = WideNet(config)
            assert sum(np.prod(w.shape) for w in model.encoder.weights) == count
    # Three 3 x 3 convolutions with norms; positions; 3 x 3 depthwise to twice as many
    # channels; norm and head.
    d, last = size * heads[0], size * heads[-1]
    stem = sum(9 * i * o + 3 * o for i, o in ((3, d // 2), (d // 2, d), (d, d)))
    pools = 10 * size * (heads[1] + heads[2])
    assert rest == (stem, 28**2 * d, pools, 2 * last + 1000 * (last + 1))
    assert sum(encoders) + sum(rest) == total


def test_the_preset():
    config = widenet_keras.preset_config("sret_small_32")
    assert config.tokens == 64
    assert config.groups_of_steps.permuted == (False, True, False, True, *[False] * 4)
    plain = config.replace(pieces=(), attention_groups=1)
    added = parameter_count(config.to_dict()) - parameter_count(plain.to_dict())
    assert added == 4 * 4 + 8 * (2 * 192 + 2 * (192 + 1) * 192 + 2)


def test_a_description_has_the_groups():
    lines = describe(tiny_model(**SRET)).splitlines()
    found = {line.split("  ")[1]: line.split("  ")[-1].strip() for line in lines[1:]}
    assert found["attention groups"] == "9 3 3 1"
    assert found["permuting steps"] == "1"
    lines = describe(tiny_model(**UNTIED))
    assert "attention groups" in lines
    assert "permuting" not in lines
    assert "groups" not in describe(tiny_model())


def refused(call, *words):
    """Expects a `ValueError` of one line that has all the words."""
    with pytest.raises(ValueError) as error:  # noqa: PT011
        call()
    line = one_line(error)
    assert len(line) < 600
    assert [word for word in words if word not in line] == [], line


def test_settings_that_cannot_be():
    refused(lambda: ResidualScale("layer"), "per='layer'", "'block', 'step'")
    refused(lambda: Projection(0), "ratio=0", "over 0")
    refused(lambda: Projection(init="zero"), "init='zero'", "'identity'")
    refused(lambda: Projection(activation="gelo"), "activation='gelo'", "'gelu'")
    refused(lambda: Projection(norm_epsilon=-1), "norm_epsilon=-1", "over 0")
    thin = {"pieces": [{"kind": "projection", "ratio": 0.08}]}
    refused(lambda: tiny_model(**thin), "ratio=0.08", "a width of 12", "least 0.0834")
    assert int(0.0834 * 12) == 1
    block = layers.Block(layers.Attention(2), layers.FeedForward(4))
    encoder = layers.Encoder([block], 2, attention_groups=4)
    refused(lambda: encoder.build((None, 6, 8)), "Encoder", "the 6 tokens", "such as 3")


def test_other_sizes_and_other_groups():
    model = tiny_model(**SRET)
    larger = model.with_image_size(24)
    assert larger.config.attention_groups == (9, 3, 3, 1)
    assert tuple(larger(tiny_images(1, size=24)).shape) == (1, 5)
    refused(lambda: model.with_image_size(16), "=9 does not divide the 16 tokens")
    other = model.adapted(attention_groups=1)
    for path, weight in weights_by_path(model).items():
        found = weights_by_path(other)[path]
        np.testing.assert_array_equal(numpy(found), numpy(weight))
    refused(
        lambda: model.adapted(pieces=[ResidualScale("step"), Projection(0.5)]),
        "residual_scale_factors",
        "adapted(pieces=())",
    )


def test_untied_models_give_the_same_answers():
    model = tiny_model(**UNTIED)
    apart = untie(model)
    assert apart.config.sharing == "none"
    assert apart.config.pieces == model.config.pieces
    assert_same_logits(apart, model)
    name = "encoder/pieces/residual_scale_factors"
    rows, own = (numpy(weights_by_path(each)[name]) for each in (apart, model))
    np.testing.assert_array_equal(rows, own[[0, 0, 1, 1]])
    refused(
        lambda: untie(tiny_model(**SRET)),
        "permuted tokens (attention_groups=(9, 3, 3, 1))",
        "adapted(attention_groups=1)",
    )


def test_what_belongs_to_blocks_when_they_become_shared():
    source = untie(tiny_model(**UNTIED))
    shared = {"sharing": "sequence", "unique_blocks": 2}
    again = source.adapted(attention_groups=3)
    for verb in (tie, functools.partial(relax, rank=12, say=quietly)):
        call = functools.partial(verb, again, **shared)
        refused(call, "attention_groups=3", "permute")
    # Blocks of a pair are alike, and so are their norms and pieces.
    dense = {"moe_blocks": "none", "attention_groups": 1}
    tied = tie(source, shared_norms=True, **dense, **shared)
    assert_same_logits(tied, source.adapted(attention_groups=1))
    assert tied.config.pieces == source.config.pieces
    tied = tie(source, base="average", **dense)
    name = "encoder/pieces/residual_scale_factors"
    wanted = numpy(weights_by_path(source)[name]).mean(axis=0, keepdims=True)
    np.testing.assert_allclose(numpy(weights_by_path(tied)[name]), wanted, atol=1e-6)
    relaxed = relax(source, 12, say=quietly, **shared)
    assert relaxed.config.pieces[0] == ResidualScale("step")
    assert_same_logits(relaxed, source)
    assert_same_logits(untie(relaxed), source)


def test_smaller_models_have_the_same_groups():
    bank = {"kind": "bottleneck", "rank": 3, "bank": 2}
    model = tiny_model(**{**SRET, "pieces": (*SRET["pieces"], bank)})
    merged = widenet_keras.merge(model)
    small = widenet_keras.extract(merged, width=4)
    for each in (merged, small):
        assert each.config.attention_groups == SRET["attention_groups"]
    assert [len(c.pieces) for c in (merged.config, small.config)] == [3, 3]
    plain = merged.adapted(pieces=())
    images, labels = tiny_images(8), np.arange(8) % 5
    refused(lambda: widenet_keras.prune(model, images, labels), "residual_scale", "()")
    pruned = widenet_keras.prune(plain, images, labels, target=0.7, multiple=1)
    assert pruned.config.attention_groups == SRET["attention_groups"]
    costs = Costs(plain, "flops")
    for block, counts in ((0, (9, 3)), (1, (3, 1))):
        size = costs.sizes[block]
        wanted = sum(attention_flops(plain.config, size.block, g) for g in counts)
        assert costs.of("attention", block, size) == wanted


def test_who_does_not_know_of_groups(tmp_path):
    model = tiny_model(**{**UNTIED, "pieces": (), "representation": False})
    path = tmp_path / "model.safetensors"
    refused(lambda: widenet_keras.to_timm(model, path), "no attention_groups")
    refused(lambda: measure_latency(model), "attention_groups=(9, 1", "measure='flops'")


@pytest.mark.parametrize(
    ("format", "quantize"),
    [
        ("litert", "none"),
        slow("saved_model", "none"),
        slow("litert", "float16"),
        slow("litert", "dynamic_int8"),
        slow("litert", "int8"),
        slow("onnx", "none"),
        slow("onnx", "dynamic_int8"),
        slow("onnx", "int8"),
    ],
)
def test_files_of_groups_are_the_model(format, quantize, tmp_path):
    from test_exports import assert_builtin, assert_files_are_the_model

    model = tiny_model(**SRET)
    made = assert_files_are_the_model(model, format, quantize, tmp_path)
    if format == "litert":
        assert_builtin(*made)
