"""How `widenet` starts and ends: words before Keras, an installed backend, Ctrl-C."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_cli import DIGITS, EVALUATE, stopped

pytest.importorskip("tyro")

from widenet_keras.cli.main import main
from widenet_keras.utils import keras_backend

ROOT = Path(__file__).parents[1]
FRAMEWORKS = ("keras", "tensorflow", "jax", "torch", "numpy")
# What is imported stands on the last line of stderr.
START = f"""
import atexit, sys
found = lambda: [name for name in {FRAMEWORKS} if name in sys.modules]
atexit.register(lambda: print(found(), file=sys.stderr))
import widenet_command
widenet_command.main()
"""
# With one backend, and a configuration that Keras wrote by itself.
ALONE = """
import sys
for name in ("tensorflow", "jax"):
    sys.modules[name] = None
import widenet_command
widenet_command.main()
"""


def environment(**changed):
    """Returns the environment of a user who has said nothing about Keras."""
    kept = {**os.environ, "PYTHONPATH": str(ROOT), **changed}
    kept.pop("KERAS_BACKEND", None)
    return kept


def started(words, code=START, **options):
    """Returns what a process of `widenet` printed and its status."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *words],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        **options,
    )


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["--help"], 0),
        (["evaluate", "--help"], 0),
        (["evalute"], 2),
        ([*EVALUATE, "--bach-size", "3"], 2),
        (["--backend", "theano", *EVALUATE], 2),
        (["predict", DIGITS, "--model", "nowhere.onnx"], 1),
    ],
    ids=lambda value: " ".join(value[-2:]) if isinstance(value, list) else "",
)
def test_words_are_answered_before_a_framework_is_imported(words, status):
    done = started(words)
    assert done.returncode == status, done.stderr
    *lines, imported = done.stderr.splitlines()
    assert imported == "[]"
    assert len(lines) == (1 if status else 0), lines


def test_one_backend_is_enough(tmp_path):
    words = [*EVALUATE, "--batch-size", "450"]
    home = environment(KERAS_HOME=str(tmp_path))
    done = subprocess.run(
        [sys.executable, "-c", ALONE, *words],
        env=home,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"backend +torch", done.stdout)
    assert done.stderr == ""


@pytest.fixture
def computer(monkeypatch, tmp_path):
    """Returns a function that makes one on which Keras is not imported yet."""
    monkeypatch.delitem(sys.modules, "keras")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))

    def make(installed, said=None, configured=None):
        monkeypatch.delenv("KERAS_BACKEND", raising=False)
        if said:
            monkeypatch.setenv("KERAS_BACKEND", said)
        if configured:
            (tmp_path / "keras.json").write_text(f'{{"backend": "{configured}"}}')
        monkeypatch.setattr(
            keras_backend, "is_installed", lambda name: name in installed
        )

    return make


@pytest.mark.parametrize(
    ("installed", "said", "configured", "asked", "chosen"),
    [
        # None is Keras' own choice: what it is configured for, else TensorFlow.
        (["tensorflow", "jax", "torch"], None, None, None, None),
        (["tensorflow", "torch"], None, "torch", None, None),
        (["jax"], None, None, None, "jax"),
        (["jax", "torch"], None, "tensorflow", None, "jax"),
        (["tensorflow", "torch"], None, "jax", None, "tensorflow"),
        (["jax", "torch"], "torch", "jax", None, "torch"),
        (["jax", "torch"], "torch", None, "jax", "jax"),
    ],
)
def test_the_backend_that_is_chosen(
    computer, installed, said, configured, asked, chosen
):
    computer(installed, said, configured)
    keras_backend.choose_backend(asked)
    assert os.environ.get("KERAS_BACKEND") == chosen


@pytest.mark.parametrize(
    ("installed", "said", "asked", "pieces"),
    [
        ([], None, None, ["neither TensorFlow nor JAX nor PyTorch", "[tensorflow]'"]),
        (["torch"], "jax", None, ["jax is not installed", "[jax]'", "choose torch"]),
        (["torch"], "torch", "jax", ["jax is not installed", "choose torch"]),
    ],
)
def test_a_missing_backend_is_one_line(computer, installed, said, asked, pieces):
    computer(installed, said)
    with pytest.raises(ImportError) as error:
        keras_backend.choose_backend(asked)
    text = str(error.value)
    assert [piece for piece in pieces if piece not in text] == [], text
    assert "\n" not in text


def test_the_backend_may_stand_before_the_command(capsys):
    main(["--backend", "torch", *EVALUATE])
    assert re.search(r"backend +torch", capsys.readouterr().out)
    stopped(capsys, ["--backend=theano", *EVALUATE], 2, "--backend", "theano")
    stopped(capsys, ["--backend"], 2, "usage: widenet")


def test_help_says_what_each_command_is_for(capsys):
    main(["--help"])
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    for words in ["evaluate Evaluate", "export Export", "predict Print", "relax Share"]:
        assert [line for line in lines if line[:2] == words.split()], words


def test_the_version(capsys):
    import widenet_keras

    main(["--version"])
    main(["--backend", "jax", "--version"])
    line = f"widenet_keras {widenet_keras.__version__}\n"
    assert capsys.readouterr().out == 2 * line


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (KeyboardInterrupt(), 130, "widenet evaluate: stopped by Ctrl-C."),
        (MemoryError(), 1, "widenet evaluate: there is not enough memory"),
        (
            RuntimeError(
                "Graph execution error:\n\n{{function_node f}} no room [Op:A]"
            ),
            1,
            "widenet evaluate: RuntimeError: no room",
        ),
    ],
    ids=["Ctrl-C", "memory", "framework"],
)
def test_what_stops_a_command_is_one_line(capsys, monkeypatch, error, status, line):
    def raises(*arguments):
        raise error

    monkeypatch.setattr("widenet_keras.evaluation.evaluate_classifier", raises)
    stopped(capsys, EVALUATE, status, line)


def test_a_reader_that_goes_away_ends_it_quietly():
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-c", START, "--help"]
    with os.fdopen(write, "w") as closed:
        done = subprocess.run(
            command,
            env=environment(),
            stdout=closed,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 141
    assert done.stderr == "[]\n"


@pytest.mark.slow
def test_interrupted_at_any_moment():
    statuses = set()
    for seconds in (0.3, 0.8, 1.5, 2.5, 4):
        process = subprocess.Popen(
            [sys.executable, "-m", "widenet_command", *EVALUATE, "--batch-size", "1"],
            env=environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        time.sleep(seconds)
        process.send_signal(signal.SIGINT)
        _, printed = process.communicate()
        statuses.add(process.returncode)
        assert len(printed.splitlines()) <= 1, printed
    assert statuses <= {0, 130}
    assert 130 in statuses
