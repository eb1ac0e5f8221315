"""What the pages say of trainings is what the files of the runs say."""

import csv
import json
import statistics
from pathlib import Path

import pytest
from pages import FRONT, README, table

pytest.importorskip("tyro")

ROOT = Path(__file__).parents[1]
from study import Study  # noqa: E402
from study_rows import Rows  # noqa: E402
from study_tables import as_lines, compare, markdown_tables, summarize  # noqa: E402
from study_variants import PAIRS, VARIANTS  # noqa: E402

import widenet_keras  # noqa: E402
from widenet_keras.models.config import WideNetConfig  # noqa: E402
from widenet_keras.utils.tables import read_rows  # noqa: E402

RESULTS = ROOT / "results"
PAGE = (RESULTS / "README.md").read_text()
STUDIES = sorted(path.parent for path in RESULTS.glob("*/study.json"))
TUNING = sorted(path.parent for path in RESULTS.glob("tuning/*/metrics.json"))
RUNS = sorted(path.parent for path in RESULTS.glob("*/metrics.json"))
ON_FRONT = {"CIFAR-10": "study_cifar10", "Fashion-MNIST": "study_fashion_mnist"}
CLAIMS = {
    "vit": "| against ViT |",
    "vit_moe": "| against ViT-MoE |",
    "shared_norms": "| against shared norms |",
}
EPOCHS = (10, 20, 30, 39)
WAYS = ("probe", "norms_and_head", "everything", "from_nothing")
DIGITS = {
    "tensorflow_seed_0": "--seed 0",
    "tensorflow_seed_1": "--seed 1",
    "tensorflow_seed_2": "--seed 2",
    "jax_seed_0": "--seed 0 --backend jax",
    "torch_seed_0": "--seed 0 --backend torch",
}


def row_of(name):
    """Returns the one row of the page that ends with the name of a folder."""
    [row] = [line for line in PAGE.splitlines() if line.endswith(f"| `{name}` |")]
    return row


@pytest.mark.parametrize("folder", RUNS, ids=lambda folder: folder.name)
def test_a_run_on_the_page(folder):
    accuracy = json.loads((folder / "metrics.json").read_text())["accuracy"]
    assert f"| {accuracy:.3f} |" in row_of(folder.name)
    assert f"{accuracy:.3f}" in FRONT


@pytest.mark.parametrize("folder", TUNING, ids=lambda folder: folder.name)
def test_a_tuning_run_on_the_page(folder):
    accuracy = json.loads((folder / "metrics.json").read_text())["accuracy"]
    assert f"| {accuracy:.4f} |" in row_of(f"tuning/{folder.name}")
    assert (folder / "settings.json").exists()


@pytest.mark.parametrize("folder", STUDIES, ids=lambda folder: folder.name)
def test_a_study_on_the_page(folder):
    rows = Rows(folder).all(list(VARIANTS))
    tables = markdown_tables(rows, PAIRS)
    assert (folder / "results.md").read_text() == tables
    assert tables.strip() in PAGE
    with (folder / "results.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert lines == [
        {name: "" if value is None else str(value) for name, value in line.items()}
        for line in as_lines(rows)
    ]


def test_the_unfinished_study_on_the_page():
    folder = RESULTS / "study_gpu_unfinished"
    study = Study(data="", output=folder, budget="gpu")
    settings = json.loads((folder / "settings.json").read_text())
    assert settings["fields"] == json.loads(json.dumps(study.base()))
    for variant in ("vit", "vit_moe", "widenet"):
        files = sorted(folder.glob(f"{variant}/*/history.csv"))
        tables = [read_rows(file) for file in files]
        assert len(tables) == 3
        seen = [[float(row["val_accuracy"]) for row in rows[:39]] for rows in tables]
        means = [f"{statistics.mean(each[n - 1] for each in seen):.4f}" for n in EPOCHS]
        last = [each[38] for each in seen]
        model = widenet_keras.ImageClassifier(
            WideNetConfig().replace(**study.fields_of(variant), num_classes=10)
        )
        model.build((None, *model.config.image_shape))
        flops = f"{widenet_keras.forward_flops(model.config) / 1e9:.4f}"
        spread = f"{statistics.stdev(last):.4f}"
        each = ", ".join(f"{value:.4f}" for value in last)
        cells = [f"{model.count_params():,}", flops, *means, spread, each]
        assert f"| `{variant}` | {' | '.join(cells)} |" in PAGE


def test_there_is_something_to_hold_the_pages_to():
    assert all((STUDIES, TUNING, RUNS))


def test_the_studies_of_the_front_page():
    rows = []
    for images, folder in ON_FRONT.items():
        summary = summarize(Rows(RESULTS / folder).all([]))
        summary = {row["variant"]: row for row in summary}
        shown = ("vit", "vit_moe", "widenet", "shared_norms")
        rows += [
            [
                images,
                f"`{row['variant']}`",
                f"{row['parameters']:,}",
                f"{row['parameters'] / summary['vit']['parameters']:.2f}",
                f"{row['seeds']}",
                f"{row['accuracy']:.4f} ± {row['spread']:.4f}",
            ]
            for row in (summary[name] for name in shown if name in summary)
        ]
    assert table("| images | variant |") == rows
    short = [
        [variant, parameters, ratio, accuracy]
        for images, variant, parameters, ratio, seeds, accuracy in rows
        if images == "CIFAR-10" and variant != "`shared_norms`" and seeds == "3"
    ]
    assert table("| variant | parameters | over ViT's |") == short


def test_the_claims_in_one_place():
    studies = ("study_cifar10", "study_fashion_mnist", "study_few_images")
    found = [compare(Rows(RESULTS / name).all([]), PAIRS) for name in studies]
    for other in ("vit", "vit_moe", "shared_norms"):
        [row] = [line for line in PAGE.splitlines() if line.startswith(CLAIMS[other])]
        cells = [
            f"{each['mean']:+.3f} at {each['parameters']:.2f}"
            for compared in found
            for each in compared
            if each["pair"] == ("widenet", other)
        ]
        said = [cell.strip() for cell in row.split("|")[3:6]]
        assert [cell for cell in said if cell] == cells


@pytest.mark.parametrize("way", WAYS)
def test_the_transfers_on_the_page(way):
    folders = sorted((RESULTS / "transfer" / way).glob("seed_*"))
    read = lambda name: [json.loads((f / name).read_text()) for f in folders]  # noqa: E731
    seen = [each["accuracy"] for each in read("metrics.json")]
    assert len(seen) == 3
    settings = read("settings.json")[0]
    assert (settings["train"], settings["train_images"]) == (way, 1000)
    mean = statistics.mean(seen)
    assert f"{mean:.3f}" in FRONT
    each = ", ".join(f"{accuracy:.4f}" for accuracy in seen)
    rate, epochs = settings["optimization"]["learning_rate"], settings["epochs"]
    spread = f"{statistics.stdev(seen):.4f}"
    cells = [f"{rate:g}", f"{epochs}", f"{mean:.4f}", spread, each]
    rows = [line for line in PAGE.splitlines() if line.startswith(f"| `{way}` |")]
    assert [row for row in rows if row.endswith(f"| {' | '.join(cells)} |")]


def test_how_the_transfers_were_tuned():
    tries = read_rows(RESULTS / "transfer" / "tuning.csv")
    assert {each["train"] for each in tries} == set(WAYS)
    for tried in tries:
        assert f"| {' | '.join(tried.values())} |" in PAGE


def test_the_digits_of_the_front_page():
    rows = []
    for name, flags in DIGITS.items():
        found = json.loads((RESULTS / "digits" / f"{name}.json").read_text())
        assert name == f"{found['backend']}_seed_{found['seed']}"
        rows.append(
            [
                f"`python recipes/digits.py {flags}`",
                f"{found['test_accuracy']:.3f}",
                f"{found['seconds']:.0f}",
            ]
        )
    assert table("| command | test accuracy on 450 digits |") == rows


def test_every_picture_is_there_and_shown():
    pictures = {
        path.relative_to(RESULTS).as_posix()
        for path in RESULTS.rglob("*.png")
        if path.parent in (RESULTS, RESULTS / "routing", *STUDIES)
    }
    for name in pictures:
        assert f"]({name})" in PAGE or f"](results/{name})" in FRONT, name
    for page, folder in ((PAGE, RESULTS), (README.read_text(), ROOT)):
        for link in page.split("](")[1:]:
            target = link.split(")")[0]
            if not target.startswith("http"):
                assert (folder / target).exists(), target
