"""Relaxed sharing: exact at full rank, the nearest of its rank below."""

import functools
import math

import numpy as np
import pytest
from conftest import numpy, one_line, slow, tiny_config, tiny_images, tiny_model

import widenet_keras
from widenet_keras import ImageClassifier, WideNetConfig, relax, tie
from widenet_keras.conversions.low_rank import (
    block_of,
    factors_of,
    products_of,
    row_of,
)
from widenet_keras.conversions.tied_weights import groups_of
from widenet_keras.models.memory_use import parameter_count
from widenet_keras.models.weights import read, weights_by_path
from widenet_keras.utils.roles import role_of

SOURCES = {
    "vit": {"kind": "vit"},
    "gated": {"kind": "vit", "gated": True, "activation": "silu"},
    "mixtures": {"kind": "vit_moe", "moe_blocks": "all"},
    # Steps 2 and 3 are mixtures.
    "both": {"kind": "vit_moe"},
}
PLANS = {
    "cycle": {"unique_blocks": 2},
    "a rest": {"unique_blocks": 3},
    "sequence": {"sharing": "sequence", "unique_blocks": 2},
    "all": {"sharing": "all"},
    "attention": {"sharing": "attention"},
    "feed_forward": {"sharing": "feed_forward", "unique_blocks": 2},
}
OFTEN = [("gated", "cycle"), ("mixtures", "feed_forward"), ("both", "sequence")]
OFTEN += [("vit", plan) for plan in ("a rest", "attention", "feed_forward")]
PAIRS = [(s, p) for s in SOURCES if s != "both" for p in PLANS]
PAIRS += [("both", p) for p in ("sequence", "attention", "feed_forward")]
PAIRS = [slow(*pair, when=pair not in OFTEN) for pair in PAIRS]


def source(name, **fields):
    """Returns a model of four steps that shares nothing."""
    return tiny_model(**{"steps": 4, **SOURCES[name], **fields})


@functools.cache
def made(name):
    """Returns a model as `source` does, always the same one, to be left as it is."""
    return source(name)


def quietly(line):
    """Takes a line and forgets it."""


def full_rank(name, plan):
    """Returns the largest rank: D, or the smaller side of a feed-forward part."""
    dense = SOURCES[name]["kind"] == "vit"
    return 10 if plan == "feed_forward" and dense else 12


def assert_same_logits(model, other):
    """Expects logits that are equal but for 1e-5 of the largest."""
    images = tiny_images(3)
    wanted = numpy(other(images))
    found = numpy(model(images))
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


def lacking(model, relaxed):
    """Yields name, what a step's kernel lacks without LoRA, and its two factors."""
    factors = {name: read(weight) for name, weight in factors_of(relaxed).items()}
    for step in range(model.config.steps):
        shared = products_of(block_of(relaxed, step))
        for name, (kernel, _) in products_of(block_of(model, step)).items():
            row = row_of(relaxed.config, name, step)
            if f"{name}_down" in factors:
                pair = (factors[f"{name}_{part}"][row] for part in ("down", "up"))
                yield name, read(kernel) - read(shared[name][0]), *pair


@pytest.mark.parametrize(("name", "plan"), PAIRS)
def test_at_full_rank_it_is_the_source(name, plan):
    model = source(name)
    rank = full_rank(name, plan)
    relaxed = relax(model, rank, say=quietly, **PLANS[plan])
    assert_same_logits(relaxed, model)
    # Without its changes it is not.
    for weight in factors_of(relaxed).values():
        weight.assign(np.zeros(weight.shape))
    images = tiny_images(3)
    assert np.abs(numpy(relaxed(images)) - numpy(model(images))).max() > 1e-3


def test_copies_are_of_blocks_of_the_same_kind():
    model, plan = made("both"), {"sharing": "sequence", "unique_blocks": 2}
    relaxed = relax(model, 12, base="lower", say=quietly, **plan)
    assert_same_logits(relaxed, model)


@pytest.mark.parametrize("part", ["attention", "feed_forward"])
@pytest.mark.parametrize(
    ("base", "wanted"), [("stepwise", [0, 3, 4, 7]), ("lower", [0, 1, 4, 5])]
)
def test_blocks_of_both_kinds_are_counted_each_by_themselves(base, wanted, part):
    mixtures = tiny_config("vit_moe", steps=8, moe_blocks=(4, 5, 6, 7))
    plan = {"sharing": "sequence", "unique_blocks": 4, "moe_blocks": (2, 3)}
    groups = groups_of(mixtures.replace(**plan), mixtures, base, part)
    assert [mixed + dense for mixed, dense in groups.values()] == [[b] for b in wanted]


@pytest.mark.parametrize("name", ["vit", "mixtures"])
@pytest.mark.parametrize("base", ["average", "stepwise", slow("lower")])
def test_at_full_rank_on_every_backend(name, base):
    model = source(name, steps=2)
    relaxed = relax(model, 12, base=base, say=quietly)
    assert_same_logits(relaxed, model)


@pytest.mark.parametrize("name", ["both", slow("gated")])
def test_every_product_is_the_nearest_of_its_rank(name):
    """What is lost is the sum of the squares of the singular values left out."""
    model, lost = source(name), []
    plan = {"sharing": "sequence", "unique_blocks": 2}
    for rank in (1, 3, 4):
        relaxed, lost_now, names = relax(model, rank, say=quietly, **plan), [], set()
        for product, wanted, down, up in lacking(model, relaxed):
            kept = min(rank, *wanted.shape[-2:])
            assert down.shape[-1] == kept
            sizes = np.linalg.svd(wanted, compute_uv=False)[..., kept:]
            left = ((wanted - down @ up) ** 2).sum(axis=(-2, -1))
            np.testing.assert_allclose(left, (sizes**2).sum(axis=-1), atol=1e-10)
            lost_now.append(left.sum())
            names.add(product)
        lost.append(lost_now)
    assert (np.diff(lost, axis=0) < 0).all()
    inner = {"query", "key", "value", "output", "hidden", "outer"}
    experts = {"experts_hidden", "experts_outer", "router"}
    assert names == inner | (experts if name == "both" else {"gate"})


def test_two_steps_of_a_mean_differ_by_the_sign_alone():
    model = made("vit")
    relaxed = relax(model, 3)
    found = {}
    for name, _, down, up in lacking(model, relaxed):
        found.setdefault(name, []).append(down @ up)
    for first, second, third, fourth in found.values():
        # Steps 0 and 2 share a block, 1 and 3 do.
        np.testing.assert_allclose(first, -third, atol=1e-6)
        np.testing.assert_allclose(second, -fourth, atol=1e-6)
        assert np.abs(first).max() > 0.01


@pytest.mark.parametrize("base", ["auto", slow("stepwise"), slow("average"), "lower"])
def test_rank_0_is_tie(base):
    model = source("vit")
    fields = {"sharing": "cycle", "unique_blocks": 2}
    tied = tie(model, base=base, moe_blocks="none", **fields)
    relaxed = relax(model, 0, base=base, **fields)
    assert relaxed.config == tied.config
    for mine, theirs in zip(relaxed.weights, tied.weights, strict=True):
        np.testing.assert_array_equal(numpy(mine), numpy(theirs))


def test_a_zero_start_is_the_shared_blocks_alone():
    model, images = source("vit"), tiny_images(3)
    relaxed = relax(model, 4, start="zero", seed=3)
    wanted = relax(model, 0, base="average")
    np.testing.assert_allclose(
        numpy(relaxed(images)), numpy(wanted(images)), rtol=0, atol=1e-6
    )
    down, again, other = (
        numpy(factors_of(each)["hidden_down"])
        for each in (
            relaxed,
            relax(model, 4, start="zero", seed=3),
            relax(model, 4, start="zero", seed=4),
        )
    )
    np.testing.assert_array_equal(down, again)
    assert (down != other).all()
    # 192 numbers of spread 1 / sqrt(12): within 20 % (4 sigma).
    assert down.std() == pytest.approx(12**-0.5, rel=0.2)


def test_counts_of_a_vit_b16():
    def count(**fields):
        config = widenet_keras.preset_config("vit_b16", **fields)
        return parameter_count(config.to_dict())

    cycle = {"sharing": "cycle", "unique_blocks": 6}
    assert count(**cycle) == 44_648_680
    factors = 12 * 64 * (4 * (768 + 768) + 2 * (768 + 3072))
    biases = 12 * (5 * 768 + 3072)
    assert (factors, biases) == (10_616_832, 82_944)
    relaxed = count(**cycle, pieces=[{"kind": "lora", "rank": 64}])
    assert relaxed == 44_648_680 + factors + biases == 55_348_456
    # From rank 256 on nothing is saved.
    most, none = (
        count(**cycle, pieces=[{"kind": "lora", "rank": rank}]) for rank in (255, 256)
    )
    assert most < count() < none


def test_what_it_makes_is_counted_so():
    relaxed = relax(made("vit"), 3)
    assert parameter_count(relaxed.config.to_dict()) == relaxed.count_params()
    # D = 12, F = 10: four of attention and two of the MLP, with a bias each.
    factors = 4 * (3 * (4 * (12 + 12) + 2 * (12 + 10)) + 5 * 12 + 10)
    assert sum(math.prod(w.shape) for w in factors_of(relaxed).values()) == factors


def test_what_steps_have_stays():
    model = source("vit", pieces=[{"kind": "prompt", "count": 2}])
    model.frozen = ("embedding", "core", "norms", "pieces")
    relaxed = relax(model, 3, sharing="attention", dropout=0.2)
    before, after = weights_by_path(model), weights_by_path(relaxed)
    kept = [p for p, w in before.items() if role_of(w).group != "core"]
    kept += [path for path in before if "/feed_forward/" in path]
    assert len(kept) == 4 * 4 + 4 + 1 + 9
    for path in kept:
        np.testing.assert_array_equal(numpy(after[path]), numpy(before[path]))
    # Only what is shared has LoRA.
    assert {name.split("_")[0] for name in factors_of(relaxed)} == {
        "query",
        "key",
        "value",
        "output",
    }
    assert relaxed.config.dropout == 0.2
    assert type(relaxed) is ImageClassifier
    assert not relaxed.compiled
    # What starts anew is trained.
    assert relaxed.frozen == ("embedding", "norms")
    assert relax(model, 3, frozen=("core",)).frozen == ("core",)


def test_a_step_of_training_moves_shared_blocks_and_pieces():
    relaxed = relax(source("vit"), 3)
    relaxed.compile("sgd", run_eagerly=True)
    before = {path: numpy(w) for path, w in weights_by_path(relaxed).items()}
    relaxed.fit(tiny_images(4), np.arange(4), batch_size=4, verbose=0)
    after = weights_by_path(relaxed)
    still = [path for path in before if (numpy(after[path]) == before[path]).all()]
    # A softmax does not see what is added to all logits of a query alike.
    assert [path for path in still if "key" not in path or "bias" not in path] == []


def test_it_tells_of_ranks_that_are_lower_and_of_those_that_save_nothing():
    lines = []
    relax(made("vit"), 11, say=lines.append)
    clamped, nothing = lines
    assert "rank 11" in clamped
    assert "hidden 10, outer 10." in clamped
    assert "query" not in clamped
    assert "no fewer than" in nothing
    lines.clear()
    relax(made("vit"), 1, sharing="all", say=lines.append)
    assert lines == []
    relax(made("mixtures"), 5, say=lines.append)
    assert "router 4." in lines[0]


@pytest.mark.parametrize(
    ("name", "arguments", "pieces"),
    [
        ("vit", {"rank": 13}, ["rank=13 is more than 12", "use at most 12"]),
        ("vit", {"rank": 11, "sharing": "feed_forward"}, ["more than 10"]),
        ("vit", {"rank": -1}, ["rank=-1", ">= 0"]),
        ("vit", {"rank": {"query": 3}}, ["rank={'query': 3}"]),
        ("vit", {"sharing": "none"}, ["sharing='none'", "'cycle'"]),
        ("vit", {"sharing": "cycel"}, ["Did you mean 'cycle'"]),
        ("vit", {"base": "mean"}, ["base='mean'", "'lower'"]),
        ("vit", {"start": "random"}, ["start='random'"]),
        ("vit", {"seed": -1}, ["seed=-1"]),
        ("vit", {"unique_blocks": 4}, ["relax: sharing='cycle'", "4 steps"]),
        ("vit", {"unique_blocks": 5}, ["unique_blocks=5"]),
        ("vit", {"width": 24}, ["relax: width=24", "has 12"]),
        ("vit", {"shared_norms": True}, ["shared_norms=True", "leave it out"]),
        ("vit", {"moe_blocks": "all"}, ["moe_blocks='all'"]),
        ("both", {}, ["step 0, which is dense, and step 2", "keeps them apart"]),
        ("both", {"sharing": "all"}, ["step 0, which is dense, and step 2"]),
    ],
)
def test_what_does_not_fit_is_one_line(name, arguments, pieces):
    refused(made(name), {"rank": 2, **arguments}, pieces)


def test_other_models_are_refused_with_one_line():
    cycle = {"sharing": "cycle", "unique_blocks": 2, "moe_blocks": "none"}
    shared = tiny_model(steps=4, **cycle)
    refused(shared, {"rank": 2}, ["shares already (sharing='cycle')", "untie()"])
    part = tiny_model("vit", sharing="attention")
    refused(part, {"rank": 2}, ["shares already (sharing='attention')"])
    adapter = tiny_model("vit", pieces=[{"kind": "lora", "rank": 2}])
    refused(adapter, {"rank": 2}, ["has LoRA already", "merge()"])
    refused(WideNetConfig(), {"rank": 2}, ["a WideNetConfig is not a model"])


def refused(model, arguments, pieces):
    """Expects a `ValueError` of one line that has all the pieces."""
    with pytest.raises(ValueError) as error:  # noqa: PT011
        relax(model, **arguments)
    line = one_line(error)
    assert [piece for piece in pieces if piece not in line] == [], line


def test_pieces_that_do_not_fit_are_told_as_by_tie():
    source = tiny_model("vit", pooling="mean", pieces=[{"kind": "relative_keys"}])
    for make in (tie, functools.partial(relax, rank=2, say=quietly)):
        with pytest.raises(
            ValueError, match="keep moe_blocks and class_token"
        ) as error:
            make(source, class_token=False)
        one_line(error)
