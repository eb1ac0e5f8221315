"""What the pages say of trainings is what the files of the runs say."""

import csv
import json
from pathlib import Path

import pytest
from conftest import BACKEND
from front_page import README, table

pytest.importorskip("tyro")
pytestmark = pytest.mark.skipif(BACKEND != "torch", reason="once is enough")

ROOT = Path(__file__).parents[1]
from study_rows import Rows  # noqa: E402
from study_tables import as_lines, markdown_tables, summarize  # noqa: E402
from study_variants import PAIRS, VARIANTS  # noqa: E402

RESULTS = ROOT / "recipes" / "results"
PAGE = (RESULTS / "README.md").read_text()
FRONT = README.read_text()
STUDIES = sorted(path.parent for path in RESULTS.glob("*/study.json"))
TUNING = sorted(path.parent for path in RESULTS.glob("tuning/*/metrics.json"))
RUNS = sorted(path.parent for path in RESULTS.glob("*/metrics.json"))


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


def test_there_is_something_to_hold_the_pages_to():
    assert all((STUDIES, TUNING, RUNS))


def test_the_table_of_the_front_page():
    summary = summarize(Rows(RESULTS / "study_cifar10").all([]))
    summary = {row["variant"]: row for row in summary}
    vit = summary["vit"]["parameters"]
    shown = ("vit", "vit_moe", "widenet", "shared_norms")
    assert table("| variant | parameters | over ViT's |") == [
        [
            f"`{row['variant']}`",
            f"{row['parameters']:,}",
            f"{row['parameters'] / vit:.2f}",
            f"{row['seeds']}",
            f"{row['accuracy']:.4f} ± {row['spread']:.4f}",
        ]
        for row in (summary[name] for name in shown)
    ]


def test_every_picture_is_there_and_shown():
    pictures = {
        path.relative_to(RESULTS).as_posix()
        for path in RESULTS.rglob("*.png")
        if path.parent in (RESULTS, RESULTS / "routing", *STUDIES)
    }
    for name in pictures:
        assert f"]({name})" in PAGE or f"](recipes/results/{name})" in FRONT, name
    for page, folder in ((PAGE, RESULTS), (FRONT, ROOT)):
        for link in page.split("](")[1:]:
            target = link.split(")")[0]
            if not target.startswith("http"):
                assert (folder / target).exists(), target
