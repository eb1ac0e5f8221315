"""The study: variants under one recipe, tables, pictures, and going on."""

import csv
import dataclasses
import json
import multiprocessing
import os
import sys
import time

import jobs_of_tests
import numpy as np
import pytest
from conftest import BACKEND, one_line

from widenet_keras import ImageClassifier, load_model
from widenet_keras.models.config import WideNetConfig
from widenet_keras.training.callbacks import HistoryTable

pytest.importorskip("tyro")
pytestmark = pytest.mark.skipif(BACKEND != "torch", reason="once is enough")

import study  # noqa: E402
from side_by_side import alone, on_cores, shares, side_by_side  # noqa: E402
from study_tables import compare  # noqa: E402


@pytest.fixture
def asked(tmp_path):
    """Returns a function that makes a small study."""
    random = np.random.default_rng(0)
    x = random.integers(0, 256, (70, 8, 8, 3), "uint8")
    y = np.arange(70) % 5
    data = tmp_path / "set.npz"
    np.savez(data, x_train=x, y_train=y, x_test=x[:10], y_test=y[:10])

    def make(**fields):
        given = {
            "data": str(data),
            "output": tmp_path / "study",
            "budget": "smoke",
            "fields": {"image_size": "8", "patch_size": "4"},
        }
        return study.Study(**{**given, **fields})

    return make


def rows(folder):
    with (folder / "results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_variants_are_trained_once_and_shown(asked, tmp_path, capsys):
    study.main(asked(variants=("vit", "widenet"), seeds=(0, 1)))
    folder = tmp_path / "study"
    first = rows(folder)
    assert [(row["variant"], row["seed"]) for row in first] == [
        ("vit", "0"),
        ("vit", "1"),
        ("widenet", "0"),
        ("widenet", "1"),
    ]
    for name in ("accuracy_parameters.png", "accuracy_flops.png"):
        assert (folder / name).read_bytes().startswith(b"\x89PNG")
    table = (folder / "results.md").read_text().splitlines()
    assert {line.split(" | ")[1] for line in table[2:4]} == {"2"}
    assert [line.split(" | ")[:2] for line in table[7:]] == [["| `widenet`", "`vit`"]]
    capsys.readouterr()
    study.main(asked(variants=("vit", "top_1"), seeds=(0,)))
    printed = capsys.readouterr().out
    assert "2 runs, 1 of them finished before" in printed
    assert rows(folder)[:4] == first
    assert rows(folder)[4]["variant"] == "top_1"


def test_validation_now_and_then_changes_nothing_else(asked, tmp_path):
    every = []
    for number in (1, 2):
        output = tmp_path / f"every_{number}"
        options = {"variants": ("widenet",), "seeds": (0,), "epochs": 2}
        study.main(asked(**options, output=output, validate_every=number))
        [row] = rows(output)
        every.append((row["accuracy"], row["train_accuracy"]))
        table = HistoryTable(output / "widenet/seed_0/history.csv").history()
        seen = np.isfinite(table["val_accuracy"])
        assert seen.tolist() == [number == 1, True]
    assert every[0] == every[1]


def test_the_precision_is_that_of_every_model(asked, tmp_path):
    study.main(asked(variants=("vit",), seeds=(0,), precision="mixed_bfloat16"))
    model = load_model(tmp_path / "study/vit/seed_0/model.keras", compile=False)
    assert model.dtype_policy.name == "mixed_bfloat16"
    with pytest.raises(ValueError, match="precision='mixed_bfloat16'") as error:
        study.main(asked(variants=("vit",), seeds=(0,)))
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
    with pytest.raises(
        ValueError, match=r"top_1_seed_0\.json is of a variant"
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
    ]:
        with pytest.raises(ValueError, match=r"\w") as error:
            asked(**wrong)
        one_line(error)


def test_a_study_of_few_images_trains_on_these(asked, tmp_path, capsys):
    study.main(asked(variants=("vit",), seeds=(0,), train_images=33))
    # A batch has 32 images.
    assert "train: 33 of 70 images" in capsys.readouterr().out
    kept = json.loads((tmp_path / "study" / "study.json").read_text())
    assert kept["train_images"] == 33
    with pytest.raises(ValueError, match="train_images=33"):
        study.main(asked(variants=("vit",), seeds=(0,)))


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


def test_nobody_trains_in_a_folder_of_another(tmp_path):
    with alone(tmp_path / "run"):
        with (
            pytest.raises(ValueError, match="another process") as error,
            alone(tmp_path / "run"),
        ):
            pass
        one_line(error)
    with alone(tmp_path / "run"):
        pass


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


def test_another_study_in_the_same_folder_is_refused(asked):
    study.main(asked(variants=("vit",), seeds=(0,)))
    for change, line in [
        ({"epochs": 2}, "a study with epochs=1 and this one has 2"),
        ({"fields": {"image_size": "8", "patch_size": "2"}}, "patch_size=4"),
        (
            {"optimization": dataclasses.replace(study.OPTIMIZATION, ema=0.9)},
            "ema=0.0",
        ),
    ]:
        with pytest.raises(ValueError, match=line) as error:
            study.main(asked(variants=("vit",), seeds=(0,), **change))
        one_line(error)
    with pytest.raises(ValueError, match="variants='vits'") as error:
        asked(variants=("vits",))
    one_line(error)


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
