"""What README and the pages of docs/ name is there, and README stays short."""

import importlib
import re
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from pages import PAGES, README, ROOT, name_of, table

import widenet_keras
from widenet_keras.cli.main import COMMANDS
from widenet_keras.models.widenet import WideNet

PACKAGE = ROOT / "widenet_keras"
ARCHITECTURE = ROOT / "docs" / "architecture.md"


def test_readme_is_read_in_minutes():
    assert len(README.read_text().splitlines()) <= 180


def names_in(cell):
    """Returns what a cell has in code."""
    return re.findall("`([^`]+)`", cell)


def test_every_preset_is_on_both_pages_with_its_size():
    def count(preset):
        model = widenet_keras.ImageClassifier.from_preset(preset)
        return f"{model.count_params():,}"

    rows = table("| preset | image / patch |")
    assert [names_in(row[0]) for row in rows] == [[n] for n in widenet_keras.presets()]
    found = {names_in(row[0])[0]: row[-1] for row in rows}
    # Large ones are counted in test_config.py; here those that are quick to make.
    for preset in found:
        if preset.endswith(("_32", "_digits")):
            assert count(preset) == found[preset], preset
    families = table("| presets | what they are |")
    named = [name for row in families for name in names_in(row[0])]
    assert sorted(named) == sorted(found)
    for row in families:
        sizes = [int(found[name].replace(",", "")) for name in names_in(row[0])]
        ends = [f"{size:,}" for size in (min(sizes), max(sizes))]
        assert row[-1] in (" to ".join(ends), " and ".join(ends)), row


def test_every_verb_is_there():
    rows = table("| verb | what it does |")
    assert len(rows) >= 16
    commands = {words.split()[1] for row in rows for words in names_in(row[3])}
    assert commands == set(COMMANDS)
    for row in rows:
        for name in names_in(row[2]):
            owner = WideNet if name.startswith("model.") else widenet_keras
            assert hasattr(owner, name.removeprefix("model.")), name


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_and_paths_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        if not target.startswith("https://"):
            assert (page.parent / target).exists(), target
    folders = "widenet_keras|recipes|tests|benchmarks|docs|results|saved_models"
    for path in re.findall(rf"`((?:{folders})/[\w/.-]+)", text):
        assert (ROOT / path).exists(), path


def test_no_page_is_left_out_of_the_site():
    listed = (ROOT / "mkdocs.yml").read_text()
    for page in PAGES[1:]:
        assert f"- {page.relative_to(ROOT / 'docs').as_posix()}" in listed, page


@pytest.mark.parametrize("name", ["README.md", "docs/index.md"])
def test_every_page_is_found_from_the_first(name):
    text = (ROOT / name).read_text()
    for page in PAGES[1:]:
        if page.parent.name == "docs" and page.name != "index.md":
            assert page.name in text, page.name


def files_entered(function):
    """Returns the files of the package that a call enters, in their order."""
    found = {}

    def follow(frame, event, _):
        path = frame.f_code.co_filename
        if event == "call" and path.startswith(str(PACKAGE)):
            found.setdefault(Path(path).relative_to(PACKAGE).as_posix())

    before = sys.getprofile()
    sys.setprofile(follow)
    try:
        function()
    finally:
        sys.setprofile(before)
    return list(found)


def told(header):
    """Returns the files of the table below a heading of the page."""
    part = ARCHITECTURE.read_text().split(f"## {header}\n")[1].split("\n## ")[0]
    return re.findall(r"^\| `([^`]+)`", part, re.MULTILINE)


def test_a_forward_pass_enters_the_files_of_the_page_in_their_order():
    model = widenet_keras.ImageClassifier.from_preset(
        "widenet_digits", engine="all_experts"
    )
    images = np.zeros((2, 8, 8, 1), "float32")
    model(images)
    listed = told("One forward pass")
    assert len(listed) > 15
    entered = files_entered(lambda: model(images))
    assert [name for name in entered if name in listed] == listed


def test_a_batch_of_training_enters_the_files_of_the_page_in_their_order():
    model = widenet_keras.ImageClassifier.from_preset("widenet_digits")
    model.compile()
    images, labels = np.zeros((2, 8, 8, 1), "float32"), np.zeros(2, "int32")
    model.train_on_batch(images, labels)
    listed = told("One batch of training")
    assert len(listed) > 5
    entered = files_entered(lambda: model.train_on_batch(images, labels))
    assert [name for name in entered if name in listed] == listed


def test_the_files_to_change_are_there():
    rows = table("| task | file |")
    assert len(rows) == 12
    for task, files in rows:
        for name in names_in(files):
            if "/" in name:
                name = name.replace("<backend>", keras.backend.backend())
                assert any((of / name).exists() for of in (PACKAGE, ROOT)), task
            elif name.isupper():
                paths = [PACKAGE / path for path in names_in(files) if "/" in path]
                paths = [
                    path / "__init__.py" if path.is_dir() else path for path in paths
                ]
                tables = [path.read_text() for path in paths]
                assert any(re.search(rf"^{name}\b.* = ", t, re.M) for t in tables), task


def test_the_table_for_who_begins_is_that_of_the_results():
    lines = (ROOT / "results" / "README.md").read_text().splitlines()
    header = "| images | model | parameters |"
    assert table(header) == table(header, lines)


def test_all_that_is_offered_is_in_the_reference():
    text = "\n".join(p.read_text() for p in (ROOT / "docs" / "reference").glob("*.md"))
    named = set(re.findall(r"^::: (.+)$", text, re.MULTILINE))
    for init in sorted(PACKAGE.rglob("__init__.py")):
        if "__all__" not in init.read_text():
            continue
        path = init.parent
        package = ".".join(path.relative_to(ROOT).parts)
        # What has the name of its file is taken for the file by who only reads.
        files = {name.stem for name in path.glob("*.py")}
        for name in importlib.import_module(package).__all__:
            found = f"{package}.{name}.{name}" if name in files else package
            assert found in named, f"{package}.{name}"
