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
from systems import (
    OPTIMIZATION,
    VIT,
    Systems,
    against_of,
    made,
    main,
    recipe_of,
    row_of,
    waiting,
)
from systems_method import Method, fresh_model
from systems_methods import COPIES, GROUPS, METHODS, members
from systems_smaller import _random
from systems_tables import FRESH_GROUPS, ORDER, SystemRow, markdown

import widenet_keras
from widenet_keras import forward_flops
from widenet_keras.conversions.costs import Costs
from widenet_keras.conversions.units import PART_OF, units_of
from widenet_keras.data import evenly_spaced, open_source
from widenet_keras.models.frozen import trained_parameters
from widenet_keras.models.preprocessing import Preprocessing
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
        ("source is trained for 1 .* more --source-epochs", {"source_epochs": 1}),
        (
            "alone_1 is trained for 1 .* more --source-epochs",
            {"source_epochs": 2, "methods": ("alone_1",)},
        ),
        (
            "nested is trained for 1 ",
            {
                "source": Path("vit.keras"),
                "source_epochs": 1,
                "methods": ("nested_1",),
            },
        ),
        (
            "tie_lower is trained for 4 .* less --warmup-epochs",
            {
                "methods": ("tie_lower",),
                "optimization": dataclasses.replace(OPTIMIZATION, warmup_epochs=5.0),
            },
        ),
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


def test_what_is_drawn_by_methods_follows_the_seed():
    zero, half = METHODS["rank_8_zero_start"], METHODS["prompts_half"]
    vit, images, found = source(), tiny_images(8), []
    tuned = METHODS["prompts"].start(vit)
    for seed in (0, 1):
        vit.seed = tuned.seed = seed
        relaxed = zero.start(vit).encoder.stacked_pieces.weights
        prompts = half.start(tuned, images, np.arange(8) % 5)
        [prompt] = prompts.encoder.stacked_pieces.weights
        found.append([np.array(prompt), *map(np.array, relaxed)])
    differ = [(one != other).any() for one, other in zip(*found, strict=True)]
    assert differ[0]
    # What goes up is zero.
    assert any(differ[1:])


def a_row(name, seed, accuracy=0.5, against=None, group="relax"):
    """Returns a row of a run of which little is said."""
    return SystemRow(name, group, against, seed, 9, 9, 0.1, [accuracy], [], 1.0)


def test_a_model_that_another_run_starts_from_is_trained_again(tmp_path):
    given = {"data": "digits", "output": tmp_path, "seeds": (1, 1)}
    systems = Systems(**given, methods=("nested", "nested_1", "tie_lower"))
    rows = Rows(tmp_path, SystemRow, ORDER)
    names = ("source", "tie_lower", "nested", "nested_1")
    assert sorted(waiting(systems, rows)) == sorted((name, 1) for name in names)
    rows.add(*(a_row(name, 1) for name in ("source", "tie_lower", "nested")))
    # The source as well, whose configuration the other has.
    wanted = [("nested_1", 1), ("nested", 1), ("source", 1)]
    assert waiting(systems, rows) == wanted
    for name in ("nested", "source"):
        path = systems.folder_of(name, 1) / "model.keras"
        path.parent.mkdir(parents=True)
        path.touch()
        wanted.remove((name, 1))
        assert waiting(systems, rows) == wanted[:1]
    rows.add(a_row("nested_1", 1))
    shutil.rmtree(tmp_path / "source")
    assert waiting(systems, rows) == []


def test_what_starts_from_nothing_takes_all_flags_but_its_own(tmp_path):
    optimization = dataclasses.replace(OPTIMIZATION, optimizer="lamb", ema=0.5)
    systems = Systems(data="digits", output=tmp_path, optimization=optimization)
    for method in (VIT, METHODS["tied"]):
        fresh = recipe_of(systems, "digits", tmp_path, 0, method).optimization
        assert (fresh.optimizer, fresh.ema) == ("lamb", 0.5)
        assert (fresh.learning_rate, fresh.weight_decay) == (3e-3, 0.5)
    assert systems.optimization_of(METHODS["tie_lower"]) == optimization


def test_a_given_source_is_not_what_fresh_models_are_held_against(tmp_path):
    own = Systems(data="digits", output=tmp_path)
    given = dataclasses.replace(own, source=tmp_path / "vit.keras")
    for name, method in METHODS.items():
        assert against_of(own, name) == method.against
    names = ("source", "nested", "cut_1", "nested_1", "prune", "widenet_prune")
    found = [against_of(given, name) for name in names]
    assert found == [None, None, None, "alone_1", "source", "widenet"]


def test_a_fresh_model_keeps_precision_and_preprocessing():
    vit = tiny_model("vit", dtype="mixed_bfloat16")
    vit.preprocessing = Preprocessing(crop_pct=0.5)
    made = fresh_model(vit, mlp_dim=8)
    assert made.dtype_policy.name == "mixed_bfloat16"
    assert made.preprocessing == vit.preprocessing
    assert made.config.mlp_dim == 8


def test_training_takes_of_an_image_what_the_source_does(tmp_path):
    vit = source()
    vit.preprocessing = Preprocessing(crop_pct=0.5)
    vit.save(tmp_path / "start.keras")
    np.savez(tmp_path / "set.npz", **arrays(10))
    systems = Systems(data=str(tmp_path / "set.npz"), output=tmp_path)
    start = {"checkpoint": tmp_path / "start.keras"}
    recipe = recipe_of(systems, systems.data, tmp_path, 0, METHODS["prune"], **start)
    model = recipe.starting_model(recipe.sources()[0])
    assert model.preprocessing == vit.preprocessing


def arrays(count):
    """Returns images that tell which they are, 12 x 12, of five classes."""
    images = np.arange(count, dtype="uint8")[:, None, None, None]
    images = np.broadcast_to(images, (count, 12, 12, 3))
    labels = np.arange(count) % 5
    names = ("x_train", "y_train", "x_test", "y_test")
    return dict(zip(names, (images, labels) * 2, strict=True))


def test_pruning_looks_at_images_to_train_on(tmp_path, monkeypatch):
    monkeypatch.setattr("systems.LOOKED_AT", 6)
    data, path = str(tmp_path / "set.npz"), tmp_path / "source.keras"
    np.savez(data, **arrays(40))
    source().save(path)
    systems = Systems(data=data, output=tmp_path, train_images=9)
    method = Method("prune", lambda model, images, labels: images, looks=True)
    looked_at = made(systems, method, path, data, 0)[:, 0, 0, 0]
    trained = evenly_spaced(open_source(data, "train"), 9).images[:, 0, 0, 0]
    assert len(looked_at) == 6
    assert set(np.rint((looked_at + 1) * 127.5)) <= set(trained)


@pytest.mark.parametrize(
    ("words", "settings"),
    [
        ("does not exist", {"data": "digit.npz"}),
        ("has 10 images and 11 were asked for", {"train_images": 11}),
        ("has 10 images and 300 were asked for", {"rows": ("heads",)}),
        ("has 5 classes and the model has 3", {"source": "three"}),
    ],
)
def test_data_are_looked_at_before_anything_is_written(words, settings, tmp_path):
    np.savez(tmp_path / "set.npz", **arrays(10))
    if "source" in settings:
        settings = {"source": tmp_path / "vit.keras"}
        tiny_model("vit", num_classes=3).save(settings["source"])
    given = {"data": str(tmp_path / "set.npz"), "rows": ("relax",)}
    systems = Systems(**given | {"output": tmp_path / "systems"} | settings)
    with pytest.raises(ValueError, match=words) as error:
        main(systems)
    one_line(error)
    assert not systems.output.exists()


def test_units_of_all_kinds_go_by_chance_for_what_they_cost():
    for model in (source(), tiny_model("widenet")):
        costs, shares = Costs(model, "flops"), []
        for block, kind in units_of(model.config):
            worth = _random(model, (block, kind))
            size = costs.sizes[block]
            # One more, since of experts no fewer may be asked for.
            more = size.resized(kind, size.count(kind) + 1)
            of = (costs.of(PART_OF[kind], block, each) for each in (more, size))
            cost = next(of) - next(of)
            shares.append(worth.sum() / worth.shape[-1] / cost)
            assert worth.max() < cost
        assert 0.3 < np.mean(shares) < 0.7


def test_what_is_cut_out_only_is_not_trained(tmp_path):
    systems, path = Systems(data="digits", output=tmp_path), tmp_path / "model.keras"
    source().save(path)
    for name, is_trained in (("cut_1", False), ("nested", True), ("nothing", False)):
        row = row_of(systems, name, path, 0, [0.5], 0)
        assert row.trained == is_trained * row.parameters


def test_differences_are_between_runs_of_one_seed():
    rows = [a_row("tie_average", 0, 0.5), a_row("tie_average", 1, 0.9)]
    rows.append(a_row("rank_8", 1, 0.8, "tie_average"))
    # Of another seed than its other.
    rows.append(a_row("rank_16", 2, 0.7, "tie_average"))
    by_name = {line.split(" | ")[0]: line for line in markdown(rows).splitlines()}
    assert "| `tie_average` | -0.100 |" in by_name["| `rank_8`"]
    assert "tie_average" not in by_name["| `rank_16`"]
