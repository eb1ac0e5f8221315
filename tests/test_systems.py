"""The comparison of ways to smaller and tuned models: its rows, and what pages say."""

import dataclasses
import shutil
import statistics
from pathlib import Path

import numpy as np
import pytest
from conftest import one_line, tiny_images, tiny_model
from pages import FRONT

pytest.importorskip("tyro")

import systems_tables
from study_rows import Rows
from systems import Systems, made, main
from systems_method import Method
from systems_methods import COPIES, GROUPS, METHODS, members
from systems_tables import FRESH_GROUPS, ORDER, SystemRow, markdown

import widenet_keras
from widenet_keras import forward_flops
from widenet_keras.models.frozen import trained_parameters
from widenet_keras.utils.tables import read_rows

RESULTS = Path(__file__).parents[1] / "results"
PAGE = (RESULTS / "README.md").read_text()
STUDIES = sorted(path.parent for path in RESULTS.glob("systems_*/results.csv"))


def rows_of(folder):
    """Returns the rows of a comparison."""
    return Rows(folder, SystemRow, ORDER).all()


def source():
    """Returns a ViT that every method can start from."""
    plain = {"class_token": False, "pooling": "mean", "representation": False}
    return tiny_model("vit", width=24, steps=4, mlp_dim=32, **plain)


@pytest.mark.parametrize("group", GROUPS)
def test_every_method_makes_a_model_to_train(group):
    vit = source()
    head = vit.config.width * 5 + 5
    for name, method in METHODS.items():
        if method.group != group or method.start is None or method.of:
            continue
        looked_at = (tiny_images(8), np.arange(8) % 5) if method.looks else ()
        made = method.start(vit, *looked_at)
        assert made.config.image_shape == vit.config.image_shape
        if group == "relax":
            halves = 1 if name.startswith("one_block") else 2
            assert made.config.num_unique_blocks == halves
            assert trained_parameters(made) == made.count_params()
        elif group in ("structures", "taught"):
            assert trained_parameters(made) == made.count_params()
            assert method.fresh == 1
            assert method.against in ("source", *METHODS)
        elif group in ("prune", "nested"):
            smaller = forward_flops(made.config) < 0.5 * forward_flops(vit.config)
            assert group == "nested" or smaller == method.looks
            if name.startswith(("alone_", "cut_")):
                hidden = round(float(name.rpartition("_")[2]) * vit.config.mlp_dim)
                sizes = made.config.block_sizes or ()
                assert ({s.hidden for s in sizes} or {made.config.mlp_dim}) == {hidden}
        elif group != "heads":
            pieces = made.encoder.stacked_pieces.weights
            assert trained_parameters(made) == head + sum(
                int(np.prod(weight.shape)) for weight in pieces
            )


def test_structures_are_as_large_as_what_they_are_held_against():
    """Parameters of blocks, without what each structure has by itself."""
    vit = source()
    made = {name: METHODS[name].start(vit) for name in ("tied", "ring", "paths")}
    width, norms, biases = 24, 4 * 24, 5 * 24 + 32
    tied = made["tied"].count_params()
    # Biases of four blocks, where two are tied.
    assert made["ring"].count_params() == tied + 2 * biases
    # In two places of two steps: two norms and two weights; and two steps less norms.
    more = 2 * 2 * (2 * 2 * width + 2) - 2 * norms
    assert made["paths"].count_params() == vit.count_params() + more


def test_all_of_a_head_but_its_last_layer_is_kept():
    fields = {"class_token": False, "pooling": "attention"}
    made = METHODS["head"].start(tiny_model("vit", **fields))
    names = [weight.path.split("/", 1)[1] for weight in made.trainable_weights]
    assert names == ["head/logits/kernel", "head/logits/bias"]


def test_members_are_the_copies_of_a_bank():
    tuned = METHODS["bank"].start(source())
    [down] = [
        weight
        for weight in tuned.encoder.stacked_pieces.weights
        if weight.name == "bottleneck_down"
    ]
    down.assign(np.random.default_rng(0).normal(size=down.shape))
    found = [
        {w.name: np.array(w) for w in one.encoder.stacked_pieces.weights}
        for one in members(tuned)
    ]
    assert len(found) == COPIES
    for copy, weights in enumerate(found):
        wanted = np.array(down)[:, copy]
        np.testing.assert_array_equal(weights["bottleneck_down"], wanted)


def test_what_cannot_be_is_one_line():
    for words, settings in (
        ("rows", {"rows": ("relaxed",)}),
        ("methods", {"methods": ("rank_9",)}),
        ("epochs", {"epochs": 0}),
        ("jobs", {"jobs": 0}),
        (
            "leave --source out",
            {"source": Path("vit.keras"), "rows": ("relax", "taught")},
        ),
        ("rows adapters", {"methods": ("bank",), "rows": ("relax",)}),
    ):
        given = {"data": "digits", "output": Path("nowhere"), **settings}
        with pytest.raises(ValueError, match=words) as error:
            Systems(**given)
        one_line(error)


def test_a_source_leaves_out_what_is_held_against_a_fresh_one():
    given = {"data": "digits", "output": Path("nowhere")}
    assert set(Systems(**given).groups()) == set(GROUPS)
    given["source"] = Path("vit.keras")
    left = set(Systems(**given).groups())
    assert left == set(GROUPS) - set(FRESH_GROUPS)
    assert {METHODS[name].group for name in Systems(**given).names()} == left
    with pytest.raises(ValueError, match="tied is one of --rows structures"):
        Systems(**given, methods=("tied",))


@pytest.mark.slow
def test_a_comparison_of_digits(tmp_path, capsys):
    """Twice: the second call trains nothing and says the same."""
    systems = Systems(
        data="digits",
        output=tmp_path / "systems",
        methods=(
            *("tie_stepwise", "rank_4", "prompts", "prompts_half", "bank"),
            *("tied", "head_mix", "logits_relation_hidden"),
        ),
        jobs=2,
        source_epochs=3,
        precision="mixed_bfloat16",
        epochs=1,
        tuning_epochs=1,
    )
    main(systems)
    first = (systems.output / "results.md").read_text()
    other = dataclasses.replace(systems, epochs=2)
    with pytest.raises(ValueError, match="with epochs=1 and this one has 2"):
        main(other)
    capsys.readouterr()
    main(systems)
    assert (systems.output / "results.md").read_text() == first
    assert "epoch" not in capsys.readouterr().out.split("|")[0]
    rows = rows_of(systems.output)
    assert [row.variant for row in rows] == ["source", *systems.methods]
    assert [len(row.accuracies) for row in rows] == [1, *[2] * 8]
    assert [len(row.members) for row in rows] == [0] * 5 + [COPIES] + [0] * 3
    half = widenet_keras.load_model(
        systems.output / "prompts_half" / "seed_0" / "model.keras"
    )
    assert half.config.pieces[0].count == 4
    assert half.dtype_policy.name == "mixed_bfloat16"


@pytest.mark.parametrize("folder", STUDIES, ids=lambda folder: folder.name)
def test_the_tables_of_the_page_are_those_of_the_runs(folder):
    assert markdown(rows_of(folder)).strip() in PAGE


def test_tables_are_written_anew(tmp_path, capsys):
    folder = tmp_path / "systems"
    shutil.copytree(RESULTS / "systems_cifar10", folder)
    systems_tables.main(systems_tables.Tables(folder=folder))
    tables = (folder / "results.md").read_text()
    assert tables.strip() in PAGE
    assert tables in capsys.readouterr().out
    kept = (RESULTS / "systems_cifar10" / "results.csv").read_bytes()
    assert (folder / "results.csv").read_bytes() == kept


def test_the_rates_of_tuning_are_those_that_tries_chose():
    tries = read_rows(RESULTS / "systems_digits" / "tuning.csv")
    best = {}
    for each in tries:
        found = (float(each["accuracy"]), float(each["learning_rate"]))
        best[each["method"]] = max(found, best.get(each["method"], (0, 0)))
    for name, (_, rate) in best.items():
        assert METHODS[name].learning_rate == rate, name


WIDTHS = ("0.125", "0.25", "0.5", "1")
ON_FRONT = {
    "systems_digits": (
        *("source", "tie_lower", "tie_stepwise", "tie_average", "rank_8"),
        *("rank_8_zero_start", "one_block_rank_8"),
        *("head", "norms_and_head", "everything", "lora", "prompts", "pairs"),
        *("bottleneck", "bank_consistency"),
    ),
    "systems_cifar10": ("source", "rank_16", "rank_16_teacher"),
    "systems_smaller_digits": (
        *("source", "prune", "prune_magnitude", "prune_random"),
        *("widenet", "widenet_prune", "cut_0.125"),
        *(f"{how}_{width}" for how in ("nested", "alone") for width in WIDTHS),
    ),
    "systems_smaller_cifar10": ("source", "prune"),
    "systems_structures_cifar10": ("source", "tied", "sret", "ring", "paths"),
}


@pytest.mark.parametrize("study", ON_FRONT)
def test_the_front_page_says_what_the_runs_say(study):
    rows = rows_of(RESULTS / study)
    for name in ON_FRONT[study]:
        mine = [row.accuracies[-1] for row in rows if row.variant == name]
        assert f"{statistics.mean(mine):.3f}" in FRONT, name


def test_what_is_drawn_of_a_source_follows_the_seed_of_the_run(tmp_path):
    model = source()
    model.seed = None
    model.save(tmp_path / "source.keras")
    method = Method("prune", lambda model: model)
    systems = Systems(data="digits", output=tmp_path)
    for seed in (0, 1):
        assert made(systems, method, tmp_path / "source.keras", None, seed).seed == seed
