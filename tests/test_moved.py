"""Names that have moved are found under their old ones, with a warning."""

import importlib
import subprocess
import sys

import pytest

import widenet_keras
from widenet_keras import moved

# A process of its own, where nothing is imported yet and a warning ends it.
FRESH = [sys.executable, "-W", "error::FutureWarning", "-c"]


@pytest.mark.parametrize("name", sorted(moved._NAMES))
def test_a_name(name):
    there = moved._NAMES[name]
    with pytest.warns(FutureWarning) as said:
        found = getattr(widenet_keras, name)
    assert found is getattr(importlib.import_module(there), name)
    assert len(said) == 1
    # Of the line that has the old name, not of one in the package.
    assert said[0].filename == __file__
    text = f"widenet_keras.{name} is {there}.{name} now; the old name goes"
    assert str(said[0].message).startswith(text)


def test_a_name_that_is_imported():
    with pytest.warns(FutureWarning, match="plot_history") as said:
        from widenet_keras import plot_history
    assert plot_history is widenet_keras.plot.plot_history
    # Python asks twice; what it would show is one line, of that import.
    [place] = {(each.filename, each.lineno) for each in said}
    assert place[0] == __file__


@pytest.mark.parametrize("name", sorted(moved._MODULES))
def test_a_module(name, monkeypatch):
    there = importlib.import_module(moved._MODULES[name])
    monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.warns(FutureWarning) as said:
        found = importlib.import_module(name)
    assert [str(each.message).split(";")[0] for each in said] == [
        f"{name} is {there.__name__} now"
    ]
    assert {n for n in vars(there) if not n.startswith("__")} <= set(vars(found))
    for offered, value in vars(there).items():
        if not offered.startswith("__"):
            assert getattr(found, offered) is value, offered
    # A second import finds it where the first one has put it.
    assert importlib.import_module(name) is found


def test_nothing_had_such_a_name():
    with pytest.raises(AttributeError, match="has no attribute 'plot_nothing'"):
        _ = widenet_keras.plot_nothing
    assert not hasattr(widenet_keras, "__wrapped__")
    with pytest.raises(ImportError, match="plot_nothing"):
        from widenet_keras import plot_nothing  # noqa: F401
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("widenet_keras.training.nothing")


def test_old_names_are_not_listed():
    assert not set(dir(widenet_keras)) & set(moved._NAMES)
    assert not set(widenet_keras.__all__) & set(moved._NAMES)
    assert set(widenet_keras.__all__) <= set(dir(widenet_keras))


def test_who_has_no_old_names_is_told_nothing():
    code = "from widenet_keras import *; import widenet_keras.runs.run"
    subprocess.run([*FRESH, code], check=True)
    code = "import widenet_keras.training.run"
    ended = subprocess.run([*FRESH, code], capture_output=True, text=True)
    assert ended.returncode == 1
    assert "widenet_keras.training.run is widenet_keras.runs.run now" in ended.stderr
