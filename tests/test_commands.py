"""Every command that the pages show has flags and values that its program takes."""

import runpy
import sys
from pathlib import Path

import pytest
from pages import OTHERS, PAGES, commands, name_of

pytest.importorskip("tyro")

from widenet_keras.cli import main as widenet
from widenet_keras.utils import command_line

ROOT = Path(__file__).parents[1]
FOUND = [
    (name_of(page), words) for page in (*PAGES, *OTHERS) for words in commands(page)
]


@pytest.fixture
def parsed(monkeypatch):
    """Returns a function that parses a command and runs nothing."""
    for folder in ("recipes", "benchmarks"):
        monkeypatch.syspath_prepend(ROOT / folder)
    import harness

    kept = []

    def keep(main, kind, command="", arguments=None):
        arguments = sys.argv[1:] if arguments is None else arguments
        kept.append(command_line.parse(kind, arguments, command))

    monkeypatch.setattr(command_line, "run_command", keep)
    monkeypatch.setattr(widenet, "run_command", keep)
    monkeypatch.setattr(
        harness, "run", lambda script, arguments, *_, **__: kept.append(arguments)
    )

    def parse(program, words):
        monkeypatch.setattr(sys, "argv", [program, *words])
        if program == "widenet":
            widenet.main(words)
        elif program == "recipes/digits.py":
            kept.append(runpy.run_path(str(ROOT / program))["parse_arguments"]())
        else:
            runpy.run_path(str(ROOT / program), run_name="__main__")
        [found] = kept
        return found

    return parse


@pytest.mark.parametrize(
    ("page", "words"), FOUND, ids=[" ".join(words)[:60] for _, words in FOUND]
)
def test_a_command(page, words, parsed):
    program, *words = words
    if "..." in words:
        words.remove("...")
        words += ["--data", "images", "--output", "run"]
    parsed(program, words)


def test_the_commands_are_found():
    programs = {words[0] for _, words in FOUND}
    assert {f"recipes/{name}.py" for name in ("digits", "study", "imagenet")} < programs
    assert {"widenet", "benchmarks/train_step.py"} < programs
    assert len(FOUND) > 30


def test_a_wrong_flag_is_seen(parsed, capsys):
    with pytest.raises(SystemExit):
        parsed("recipes/study.py", ["--data", "x", "--output", "y", "--sed", "1"])
    assert "--sed" in capsys.readouterr().err
