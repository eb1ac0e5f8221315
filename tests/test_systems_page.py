"""The page of related systems names what there is."""

import re
from pathlib import Path

import pytest

import widenet_keras

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "systems.md").read_text()
ROWS = [line.strip("|").split("|") for line in PAGE.splitlines() if line[:1] == "|"]
AXES = [[cell.strip() for cell in row] for row in ROWS if len(row) == 8][2:]
EXACT = [[cell.strip() for cell in row] for row in ROWS if len(row) == 4][2:]


def test_both_tables_have_every_system():
    assert [row[0] for row in AXES] == [row[0] for row in EXACT]
    assert len(AXES) == 12


def test_presets_verbs_and_fields_are_there():
    config = widenet_keras.WideNetConfig()
    named = [name for row in AXES for name in re.findall("`([^`]+)`", row[-1])]
    assert len(named) > 20
    for name in named:
        known = name in widenet_keras.presets() or hasattr(widenet_keras, name)
        assert known or hasattr(config, name.split("=")[0]), name


@pytest.mark.parametrize("row", EXACT, ids=lambda row: row[0])
def test_tests_are_there(row):
    found = re.findall("`(tests/[^`]+)::([^`]+)`", row[-1])
    assert found
    for path, name in found:
        assert f"def {name}(" in (ROOT / path).read_text(), name
