"""The study: variants under one recipe, tables, pictures, and going on."""

import contextlib
import csv
import dataclasses
import functools
import io
import json
import multiprocessing
import os
import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import jobs_of_tests
import numpy as np
import pytest
from conftest import one_line

from widenet_keras import ImageClassifier, load_model
from widenet_keras.models.config import WideNetConfig
from widenet_keras.runs.callbacks import HistoryTable
from widenet_keras.utils.json_files import write_json
from widenet_keras.utils.tables import read_rows

pytest.importorskip("tyro")

import study
import study_tables
from side_by_side import on_cores, shares, side_by_side
from study_tables import compare


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """An .npz file of 70 and 10 images in 5 classes."""
    random = np.random.default_rng(0)
    x = random.integers(0, 256, (70, 8, 8, 3), "uint8")
    y = np.arange(70) % 5
    path = tmp_path_factory.mktemp("data") / "set.npz"
    np.savez(path, x_train=x, y_train=y, x_test=x[:10], y_test=y[:10])
    return path


def small(data, output, **fields):
    """Returns a small study."""
    given = {
        "data": str(data),
        "output": output,
        "budget": "smoke",
        "fields": {"image_size": "8", "patch_size": "4"},
    }
    return study.Study(**{**given, **fields})


@pytest.fixture
def asked(data, tmp_path):
    """Returns a function that makes a small study in a folder of its own."""
    return functools.partial(small, data=data, output=tmp_path / "study")


TABLES = ("results.csv", "history.csv", "settings.json")
# Of 33 images a batch has 32, so an epoch is one step.
TRAINED = {
    "variants": ("vit", "widenet"),
    "seeds": (0,),
    "epochs": 2,
    "train_images": 33,
    "precision": "mixed_bfloat16",
}


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    """The folder of a study of two runs that is finished, and what it printed."""
    folder = tmp_path_factory.mktemp("finished") / "study"
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        study.main(small(data, folder, **TRAINED))
    return folder, printed.getvalue()


def rows(folder):
    with (folder / "results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_variants_are_trained_and_shown(finished):
    folder, printed = finished
    # A batch has 32 images.
    assert "train: 33 of 70 images" in printed
    found = [(row["variant"], row["seed"]) for row in rows(folder)]
    assert found == [("vit", "0"), ("widenet", "0")]
    for name in ("accuracy_parameters.png", "accuracy_flops.png"):
        assert (folder / name).read_bytes().startswith(b"\x89PNG")
    table = (folder / "results.md").read_text().splitlines()
    assert [line.split(" | ")[:2] for line in table[7:]] == [["| `widenet`", "`vit`"]]
    kept = json.loads((folder / "settings.json").read_text())
    assert kept["train_images"] == 33
    epochs = read_rows(folder / "history.csv")
    for name in ("vit", "widenet"):
        run = folder / name / "seed_0"
        model = load_model(run / "model.keras", compile=False)
        assert model.dtype_policy.name == "mixed_bfloat16"
        of_run = [line for line in epochs if line["variant"] == name]
        for line, own in zip(of_run, read_rows(run / "history.csv"), strict=True):
            assert own.items() <= line.items()
            assert line["seed"] == "0"


def test_what_is_finished_is_not_trained_again(data, finished, tmp_path, capsys):
    folder = tmp_path / "study"
    shutil.copytree(finished[0], folder)
    first = rows(folder)
    study.main(small(data, folder, **{**TRAINED, "variants": ("vit", "top_1")}))
    assert "2 runs, 1 of them finished before" in capsys.readouterr().out
    assert rows(folder)[:2] == first
    assert rows(folder)[2]["variant"] == "top_1"


def test_a_study_goes_on_from_its_tables_alone(data, finished, tmp_path, capsys):
    folder = tmp_path / "study"
    folder.mkdir()
    for name in TABLES:
        shutil.copy(finished[0] / name, folder)
    study.main(small(data, folder, **{**TRAINED, "variants": ("vit", "top_1")}))
    assert "2 runs, 1 of them finished before" in capsys.readouterr().out
    assert rows(folder)[:2] == rows(finished[0])
    assert not (folder / "vit").exists()
    # Epochs of runs whose folders are gone stay; the new run is last.
    lines = read_rows(folder / "history.csv")
    assert [line["variant"] for line in lines] == ["vit"] * 2 + ["widenet"] * 2 + [
        "top_1"
    ] * 2


def as_before(finished, folder):
    """Makes a study as version 0.1.0 left it, of one that is finished."""
    shutil.copytree(finished, folder)
    (folder / "settings.json").rename(folder / "study.json")
    for row in study.Rows(folder).all():
        path = folder / "rows" / f"{row.variant}_seed_{row.seed}.json"
        write_json(path, dataclasses.asdict(row))
    (folder / "history.csv").unlink()


@pytest.mark.parametrize("table", ["none", "old", "new"])
def test_a_study_of_before_goes_on(table, data, finished, tmp_path, capsys):
    folder = tmp_path / "study"
    as_before(finished[0], folder)
    if table == "none":
        (folder / "results.csv").unlink()
    elif table == "new":
        # What has been added by who knows the table alone.
        for path in (folder / "rows").glob("vit_*"):
            path.unlink()
    study.main(small(data, folder, **TRAINED))
    assert "2 runs, 2 of them finished before" in capsys.readouterr().out
    for name in TABLES:
        assert (folder / name).read_bytes() == (finished[0] / name).read_bytes()
    other = {**TRAINED, "epochs": 1}
    (folder / "settings.json").unlink()
    with pytest.raises(ValueError, match="a study with epochs=2"):
        study.main(small(data, folder, **other))


def test_tables_are_written_anew(finished, tmp_path, capsys):
    folder = tmp_path / "study"
    as_before(finished[0], folder)
    for path in folder.glob("*.png"):
        path.unlink()
    study_tables.main(study_tables.Tables(folder=folder))
    for name in (*TABLES, "results.md", *study_tables.AXES):
        assert (folder / name).read_bytes() == (finished[0] / name).read_bytes()
    assert capsys.readouterr().out.startswith("| variant |")
    with pytest.raises(ValueError, match="has no runs") as error:
        study_tables.main(study_tables.Tables(folder=tmp_path))
    one_line(error)


@pytest.mark.parametrize("table", ["new", "old"])
def test_rows_without_settings_are_refused(table, finished, tmp_path, asked):
    folder = tmp_path / "study"
    as_before(finished[0], folder)
    (folder / "study.json").unlink()
    if table == "old":
        (folder / "results.csv").unlink()
    with pytest.raises(ValueError, match=r"copy the settings\.json of the") as error:
        study.main(asked(**TRAINED))
    one_line(error)
    assert not (folder / "settings.json").exists()


@pytest.mark.parametrize(
    "change",
    [
        ("0.5", "half"),
        ("0.5", "[0.5]"),
        ("accuracy", "acuracy"),
        ("{}", "1"),
        (",200", ""),
    ],
)
def test_a_damaged_table_is_named(change, tmp_path):
    found = study.Rows(tmp_path)
    found.add(study.Row("widenet", 0, {}, 0.5, 0.6, 200, 0.1, 1.0))
    found.path.write_text(found.path.read_text().replace(*change, 1))
    with pytest.raises(ValueError, match=r"results\.csv is damaged") as error:
        found.all()
    one_line(error)


@pytest.mark.parametrize("text", ["variant,seed,epoch\nvit\n", "variant,seed\nvit,x\n"])
def test_a_damaged_history_is_named(text, tmp_path):
    (tmp_path / "history.csv").write_text(text)
    with pytest.raises(ValueError, match=r"history\.csv is damaged") as error:
        study.Rows(tmp_path).add(study.Row("widenet", 0, {}, 0.5, 0.6, 200, 0.1, 1.0))
    one_line(error)
    assert not (tmp_path / "results.csv").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="no such locks")
def test_rows_are_added_in_turn(tmp_path):
    def add(variant):
        for seed in range(20):
            row = study.Row(variant, seed, {}, 0.5, 0.6, 200, 0.1, 1.0)
            study.Rows(tmp_path).add(row)

    # A lock is of an open file, so that threads are kept apart as processes are.
    with ThreadPoolExecutor() as pool:
        list(pool.map(add, ("vit", "widenet")))
    found = [(row.variant, row.seed) for row in study.Rows(tmp_path).all()]
    assert found == [(n, s) for n in ("vit", "widenet") for s in range(20)]


def test_validation_now_and_then_changes_nothing_else(data, finished, tmp_path):
    fields = {**TRAINED, "variants": ("widenet",), "validate_every": 2}
    study.main(small(data, tmp_path / "study", **fields))
    found = []
    for folder, seen in (
        (finished[0], [True, True]),
        (tmp_path / "study", [False, True]),
    ):
        [row] = [row for row in rows(folder) if row["variant"] == "widenet"]
        found.append((row["accuracy"], row["train_accuracy"]))
        table = HistoryTable(folder / "widenet/seed_0/history.csv").history()
        assert np.isfinite(table["val_accuracy"]).tolist() == seen
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"epochs": 1}, "a study with epochs=2 and this one has 1"),
        ({"fields": {"image_size": "8", "patch_size": "2"}}, "patch_size=4"),
        (
            {"optimization": dataclasses.replace(study.OPTIMIZATION, ema=0.9)},
            r"ema=0\.0",
        ),
        ({"precision": "float32"}, "precision='mixed_bfloat16'"),
        ({"train_images": None}, "train_images=33"),
    ],
)
def test_another_study_in_the_same_folder_is_refused(data, finished, change, line):
    with pytest.raises(ValueError, match=line) as error:
        study.main(small(data, finished[0], **{**TRAINED, **change}))
    one_line(error)


def test_the_tables_are_of_the_rows_that_are_there(asked, tmp_path):
    folder = tmp_path / "study"
    found = study.Rows(folder)
    row = study.Row("widenet", 0, {}, 0.5, 0.6, 200, 0.1, 1.0)
    found.add(row)
    # Without a spread and without minutes, as after a run that was stopped.
    vit = json.loads(json.dumps(study.VARIANTS["vit"]({})))
    vit = dataclasses.replace(row, variant="vit", changes=vit, accuracy=0.75)
    found.add(dataclasses.replace(vit, minutes=None))
    found.add(dataclasses.replace(row, seed=1, accuracy=0.7))
    write_json(folder / "settings.json", asked().settings())
    study.main(asked(variants=("widenet",), seeds=(0, 1)))
    # Mean of 0.5 and 0.7; their deviation is 0.1 * sqrt(2).
    table = (folder / "results.md").read_text().splitlines()
    assert table[2:5] == [
        "| `vit` | 1 | 0.7500 |  | 0.6000 | 200 | 0.1000 |  |",
        "| `widenet` | 2 | 0.6000 | 0.1414 | 0.6000 | 200 | 0.1000 | 1.0 |",
        "",
    ]
    # The seed that both have: 0.5 - 0.75.
    assert table[7:] == ["| `widenet` | `vit` | 1.000 | 1.00 | -0.2500 | -0.2500 |"]


def test_pairs_are_compared_seed_by_seed():
    row = study.Row("widenet", 0, {}, 0.5, 0.6, 200, 0.1, 1.0)
    vit = dataclasses.replace(row, variant="vit", parameters=400, gflops=0.2)
    of_seeds = [
        dataclasses.replace(one, seed=seed, accuracy=accuracy)
        for one, accuracies in ((row, (0.5, 0.75)), (vit, (0.625, 0.25, 0.0)))
        for seed, accuracy in enumerate(accuracies)
    ]
    # 0.5 - 0.625 and 0.75 - 0.25; their mean is 0.1875.
    [found] = compare(of_seeds, [("widenet", "vit"), ("deeper", "vit")])
    assert found == {
        "pair": ("widenet", "vit"),
        "parameters": 0.5,
        "gflops": 0.5,
        "mean": 0.1875,
        "differences": [-0.125, 0.5],
    }


def test_a_row_of_a_variant_that_was_changed_is_refused(asked, tmp_path):
    row = study.Row("top_1", 0, {"top_k": 3}, 0.5, 0.6, 200, 0.1, 1.0)
    study.Rows(tmp_path / "study").add(row)
    write_json(tmp_path / "study/settings.json", asked().settings())
    with pytest.raises(
        ValueError, match=r"results\.csv has a top_1 with .* remove the row"
    ) as error:
        study.main(asked(variants=("top_1",), seeds=(0,)))
    one_line(error)


def test_mistakes_are_told_before_anything_is_trained_or_written(asked, tmp_path):
    with pytest.raises(ValueError, match="nowhere"):
        study.main(asked(data=str(tmp_path / "nowhere.npz")))
    with pytest.raises(ValueError, match="at most 70"):
        study.main(asked(train_images=71))
    assert not (tmp_path / "study").exists()
    for wrong in [
        {"fields": {"steps": "5"}},  # Two groups of five.
        {"epochs": 0},
        {"validate_every": 0},
        {"train_images": 31},  # A batch has 32.
        {"seeds": (-1,)},
        {"variants": ("vits",)},
        {"variants": ()},
    ]:
        with pytest.raises(ValueError, match=r"\w") as error:
            asked(**wrong)
        one_line(error)


def test_data_that_no_run_could_use_are_told_before_anything_is_written(
    asked, tmp_path
):
    x, y = np.zeros((31, 8, 8, 3), "uint8"), np.arange(31) % 5
    data = tmp_path / "few.npz"
    np.savez(data, x_train=x, y_train=y)
    with pytest.raises(ValueError, match="x_test") as error:
        study.main(asked(data=str(data)))
    one_line(error)
    np.savez(data, x_train=x, y_train=y, x_test=x, y_test=y)
    with pytest.raises(ValueError, match="fewer than a batch") as error:
        study.main(asked(data=str(data)))
    one_line(error)
    assert not (tmp_path / "study").exists()


def test_a_run_that_is_asked_for_twice_is_one_run(asked):
    runs = asked(variants=("vit", "vit"), seeds=(0, 0)).runs()
    assert runs == [("vit", 0)]


@pytest.mark.slow
def test_two_jobs_end_with_the_rows_of_one(asked, tmp_path):
    given = {"variants": ("vit", "widenet"), "seeds": (0,)}
    study.main(asked(**given))
    study.main(asked(**given, output=tmp_path / "jobs", jobs=2))
    without = [
        [{**row, "minutes": None} for row in rows(tmp_path / name)]
        for name in ("study", "jobs")
    ]
    assert without[0] == without[1]
    assert "test accuracy" in (tmp_path / "jobs/vit/seed_0.log").read_text()


def test_calls_side_by_side(tmp_path):
    logs = [tmp_path / "logs" / f"{index}.log" for index in range(3)]
    calls = [((1, 2),), ((3, 4, 5),), ((),)]
    assert sorted(side_by_side(sum, calls, logs, jobs=2)) == [0, 3, 12]
    calls[1] = (("one", "two"),)
    with pytest.raises(ChildProcessError, match=r"logs/1\.log") as error:
        list(side_by_side(sum, calls, logs, jobs=1))
    one_line(error)
    assert "TypeError" in logs[1].read_text()


def test_calls_overlap_and_end_together(tmp_path):
    logs = [tmp_path / "first.log", tmp_path / "second.log"]
    # Either waits for the other: one after the other they would fail.
    both = [tmp_path / "first", tmp_path / "second"]
    calls = [(both[0], both[1]), (both[1], both[0])]
    assert list(side_by_side(jobs_of_tests.meet, calls, logs, jobs=2)) == [True, True]
    calls = [(tmp_path / "alive",), (None,)]
    with pytest.raises(ChildProcessError, match=r"second\.log"):
        list(side_by_side(jobs_of_tests.tick, calls, logs, jobs=2))
    assert not jobs_of_tests.ticks(tmp_path / "alive")


@pytest.mark.skipif(sys.platform == "win32", reason="kills by signal")
def test_calls_end_with_a_parent_that_is_killed(tmp_path):
    parent = multiprocessing.get_context("spawn").Process(
        target=jobs_of_tests.parent, args=(tmp_path / "alive", tmp_path / "log")
    )
    parent.start()
    while not (tmp_path / "alive").exists():
        assert parent.is_alive()
        time.sleep(0.05)
    parent.kill()
    parent.join()
    assert not jobs_of_tests.ticks(tmp_path / "alive")


def test_shares_of_the_cores():
    cores = os.sched_getaffinity(0)
    assert set.union(*shares(len(cores))) == cores
    assert shares(len(cores) + 1) == [None] * (len(cores) + 1)
    with on_cores({min(cores)}):
        assert os.sched_getaffinity(0) == {min(cores)}
    assert os.sched_getaffinity(0) == cores


def test_first_seeds_come_first(asked):
    # So that a study that is stopped has something of all.
    seeds = [seed for _, seed in asked().runs()]
    assert seeds == [0] * len(study.VARIANTS) + [1] * len(study.MAIN) + [2] * len(
        study.MAIN
    )


@pytest.mark.parametrize("budget", list(study.BUDGETS))
def test_every_variant_is_a_model_of_its_own(asked, budget):
    made = asked(budget=budget, fields={})
    configs = {
        WideNetConfig().replace(num_classes=10, **made.fields_of(name))
        for name in study.VARIANTS
    }
    assert len(configs) == len(study.VARIANTS)
    # A mixture in the last two of at least four blocks is no mixture everywhere.
    routed = {name: made.fields_of(name) for name in ("vit_moe", "not_shared")}
    assert WideNetConfig(**routed["vit_moe"]).routed_steps == tuple(
        WideNetConfig(**routed["not_shared"]).routed_steps[-2:]
    )
    assert made.fields_of("not_shared")["steps"] >= 4


def test_the_budget_of_two_cores_has_the_ratios_that_it_is_for(asked):
    made = asked(budget="cpu", fields={})
    count = {}
    for name in ("vit", "vit_moe", "widenet", "deeper"):
        config = WideNetConfig(**made.fields_of(name), num_classes=10)
        count[name] = ImageClassifier(config).count_params()
    assert max(count["widenet"], count["deeper"]) <= 0.46 * count["vit"]
    assert max(count["widenet"], count["deeper"]) <= 0.25 * count["vit_moe"]
