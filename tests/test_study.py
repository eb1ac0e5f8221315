"""The study: variants under one recipe, tables, pictures, and going on."""

import csv
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import BACKEND, one_line

pytest.importorskip("tyro")
pytestmark = pytest.mark.skipif(BACKEND != "torch", reason="once is enough")

sys.path.insert(0, str(Path(__file__).parents[1] / "recipes"))

import study  # noqa: E402


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
    # First seeds first, so that a study that is stopped has something of all.
    assert [(row["variant"], row["seed"]) for row in first] == [
        ("vit", "0"),
        ("widenet", "0"),
        ("vit", "1"),
        ("widenet", "1"),
    ]
    for name in ("accuracy_parameters.png", "accuracy_flops.png"):
        assert (folder / name).read_bytes().startswith(b"\x89PNG")
    table = (folder / "results.md").read_text().splitlines()
    assert len(table) == 4
    assert {line.split(" | ")[1] for line in table[2:]} == {"2"}
    capsys.readouterr()
    study.main(asked(variants=("vit", "top_1"), seeds=(0,)))
    printed = capsys.readouterr().out
    assert printed.count("finished before") == 1
    assert rows(folder)[:4] == first
    assert rows(folder)[4]["variant"] == "top_1"


def test_another_study_in_the_same_folder_is_refused(asked):
    study.main(asked(variants=("vit",), seeds=(0,)))
    with pytest.raises(ValueError, match="another output folder") as error:
        study.main(asked(variants=("vit",), seeds=(0,), epochs=2))
    one_line(error)
    with pytest.raises(ValueError, match="variants='vits'") as error:
        asked(variants=("vits",))
    one_line(error)


@pytest.mark.parametrize("budget", list(study.BUDGETS))
def test_every_variant_is_a_model_of_its_own(asked, budget):
    from widenet_keras.models.config import WideNetConfig

    made = asked(budget=budget, fields={})
    configs = {
        WideNetConfig().replace(num_classes=10, **made.fields_of(name))
        for name in study.VARIANTS
    }
    assert len(configs) == len(study.VARIANTS)
    assert len(made.runs()) == 3 * len(study.MAIN) + len(study.VARIANTS) - len(
        study.MAIN
    )
