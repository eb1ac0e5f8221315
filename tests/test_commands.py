"""Every command that the pages show has flags and values that its program takes."""

import re
import runpy
import shlex
import sys
from pathlib import Path

import pytest

pytest.importorskip("tyro")

from widenet_keras.cli import main as widenet
from widenet_keras.utils import command_line

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", "results/README.md", "saved_models/README.md")
PROGRAM = re.compile(r"(?:recipes|benchmarks)/\w+\.py|widenet")


def commands(page):
    """Yields the words of every command of a page, from its program on."""
    text = (ROOT / page).read_text().replace("\\\n", " ")
    lines = re.findall(r"^    (\S.*)$|`([^`\n]+)`", text, re.MULTILINE)
    lines = [part for both in lines for part in both if part]
    for block in re.findall(r"```bash\n(.*?)```", text, re.DOTALL):
        lines += block.splitlines()
    for line in lines:
        try:
            words = [word for word in shlex.split(line) if word != "&&"]
        except ValueError:  # an apostrophe of a sentence
            continue
        places = [i for i, word in enumerate(words) if PROGRAM.fullmatch(word)]
        if not places:
            continue
        called = "python" in words[: places[0]]
        words = words[places[0] :]
        # A sentence says `recipes/study.py` or `widenet predict`, without arguments.
        if called or len(words) > (2 if words[0] == "widenet" else 1):
            yield words


FOUND = [(page, words) for page in PAGES for words in commands(page)]


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
