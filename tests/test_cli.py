"""`widenet` from the command line: what it prints, writes and refuses."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import BACKEND, tiny_images, tiny_model
from matplotlib.image import imsave

import widenet_keras.data.labelled

pytest.importorskip("tyro")

from widenet_keras.cli import backend as cli_backend
from widenet_keras.cli.main import main
from widenet_keras.data import Source
from widenet_keras.utils.command_line import message_in

ROOT = Path(__file__).parents[1]
DIGITS = str(ROOT / "saved_models" / "digits" / "model.keras")
OTHERS = {"tensorflow": "jax", "jax": "torch", "torch": "tensorflow"}
EVALUATE = ["evaluate", DIGITS, "--data", "digits", "--batch-size", "150"]


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    """A model of 12-pixel colour images and 5 classes."""
    path = tmp_path_factory.mktemp("vit") / "vit.keras"
    tiny_model("vit", steps=1).save(path)
    return str(path)


def stopped(capsys, arguments, status, *pieces):
    """Expects one line on stderr that has all the pieces, and a status."""
    with pytest.raises(SystemExit) as end:
        main(arguments)
    printed = capsys.readouterr()
    assert end.value.code == status, printed.err
    [line] = printed.err.splitlines()
    assert line.startswith("widenet")
    assert [piece for piece in pieces if piece not in line] == [], line


def accuracy_of_the_card():
    card = json.loads((ROOT / "saved_models/digits/metrics.json").read_text())
    return card["test_accuracy"]


def test_evaluate_prints_and_writes(tmp_path, capsys):
    output = tmp_path / "new" / "digits"
    main([*EVALUATE, "--output", str(output)])
    printed = capsys.readouterr().out
    accuracy = accuracy_of_the_card()
    assert f"{100 * accuracy:.2f} %" in printed
    assert "digits, validation: 450 images, 10 classes" in printed
    written = sorted(path.name for path in output.iterdir())
    assert written == ["evaluation.json", "evaluation.md", "evaluation.png"]
    found = json.loads((output / "evaluation.json").read_text())
    assert found["top1"] == pytest.approx(accuracy)
    assert found["model"] == DIGITS
    assert found["routing"]["steps"] == [0, 1, 2]
    assert [each["name"] for each in found["classes"]] == list("0123456789")
    assert (output / "evaluation.md").read_text().startswith("# Evaluation")


def test_another_part_on_the_backend_that_runs(capsys):
    arguments = [*EVALUATE[:-1], "1000", "--split", "train", "--backend", BACKEND]
    main(arguments)
    printed = capsys.readouterr().out
    assert "1,347" in printed
    assert f"backend            {BACKEND}" in printed


def test_help_names_commands_and_flags(capsys):
    main(["--help"])
    assert "evaluate" in capsys.readouterr().out
    with pytest.raises(SystemExit) as end:
        main(["evaluate", "--help"])
    assert not end.value.code
    printed = capsys.readouterr().out
    for flag in ["--data", "--split", "--batch-size", "--image-size", "--backend"]:
        assert flag in printed


@pytest.mark.parametrize(
    ("arguments", "pieces"),
    [
        ([], ["usage: widenet {convert,evaluate,export,extract,measure,"]),
        (["evalute"], ["'evalute'", "Did you mean 'evaluate'"]),
        (["evaluate", "--data", "digits"], ["MODEL"]),
        (["evaluate", DIGITS], ["--data"]),
        ([*EVALUATE, "--bach-size", "3"], ["--bach-size"]),
        ([*EVALUATE, "--batch-size", "many"], ["--batch-size", "many"]),
        ([*EVALUATE, "--batch-size", "0"], ["--batch-size 0", "at least 1"]),
        ([*EVALUATE, "--on-error", "ignore"], ["--on-error", "ignore"]),
        ([*EVALUATE, "--backend", "theano"], ["--backend", "theano"]),
        ([*EVALUATE, "spare"], ["spare"]),
        (["predict", "", "--model", DIGITS], ["one of the words is empty"]),
        ([*EVALUATE, "--output="], ["one of the words is empty"]),
    ],
)
def test_wrong_usage_is_one_line(capsys, arguments, pieces):
    stopped(capsys, arguments, 2, *pieces)


@pytest.mark.parametrize(
    ("arguments", "pieces"),
    [
        (["evaluate", "no.keras", "--data", "digits"], ["no.keras does not exist"]),
        ([*EVALUATE, "--split", "tset"], ["split='tset'", "Did you mean 'test'"]),
        ([*EVALUATE, "--image-size", "9"], ["image_size=9", "patch_size=2"]),
        ([*EVALUATE, "--image-size", "0"], ["image_size=0"]),
        ([*EVALUATE, "--output", __file__], ["test_cli.py is a file"]),
    ],
)
def test_what_does_not_fit_is_one_line(capsys, arguments, pieces):
    stopped(capsys, arguments, 1, *pieces)


def test_other_classes_than_the_model_are_one_line(capsys, vit):
    arguments = ["evaluate", vit, "--data", "digits"]
    stopped(capsys, arguments, 1, "digits has 10 classes", "model has 5")


def test_other_models_are_one_line(capsys, tmp_path):
    path = str(tmp_path / "other.keras")
    keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(2)]).save(path)
    arguments = ["evaluate", path, "--data", "digits"]
    stopped(capsys, arguments, 1, "other.keras is a Sequential")


def test_without_tyro(capsys, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    stopped(capsys, EVALUATE, 1, "run python -m pip install -e", "[recipes]'")


def test_without_matplotlib_nothing_is_evaluated(capsys, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    # Not reached.
    monkeypatch.setattr("widenet_keras.evaluation.evaluate_classifier", None)
    arguments = [*EVALUATE, "--output", str(tmp_path)]
    stopped(capsys, arguments, 1, "run python -m pip install -e", "[plot]'")
    assert not list(tmp_path.iterdir())


def test_another_backend_starts_the_command_anew(monkeypatch):
    started = []

    class Started(Exception):
        pass

    def execv(program, words):
        started.extend([program, words, os.environ["KERAS_BACKEND"]])
        raise Started

    monkeypatch.setenv("KERAS_BACKEND", BACKEND)
    monkeypatch.setattr(cli_backend.os, "execv", execv)
    other = OTHERS[BACKEND]
    arguments = [*EVALUATE, "--backend", other]
    with pytest.raises(Started):
        main(arguments)
    program, words, backend = started
    assert program == sys.executable
    assert words == [sys.executable, "-m", "widenet_keras.cli", *arguments]
    assert backend == other


@pytest.mark.slow
def test_a_process_of_its_own(tmp_path):
    # Keras starts on JAX, and the command on TensorFlow.
    environment = {**os.environ, "KERAS_BACKEND": "jax"}
    command = [sys.executable, "-m", "widenet_keras.cli", *EVALUATE]
    done = subprocess.run(
        [*command, "--backend", "tensorflow"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "tensorflow" in done.stdout
    assert f"{100 * accuracy_of_the_card():.2f} %" in done.stdout


@pytest.mark.parametrize(
    "frame",
    [
        "╭─ Parsing error ──────────╮\n"
        "│ Unrecognized options:    │\n"
        "│     --foo                │\n"
        "│ ──────────────────────── │\n"
        "│ For full helptext, run x │\n"
        "╰──────────────────────────╯\n",
        " Parsing error             \n"
        " ------------------------- \n"
        "  Unrecognized options:    \n"
        "      --foo                \n"
        "  -------------------------\n"
        "  For full helptext, run x \n",
    ],
    ids=["lines", "dashes"],
)
def test_framed_errors_become_one_line(frame):
    assert message_in(frame) == "Unrecognized options: --foo"


MADE_UP = Source(
    name="here",
    count=7,
    class_names=("ant", "bee", "cat", "dog", "eel"),
    description="seven images",
)


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """Replaces the sources of the package; returns what they are asked for."""
    asked = {}
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()

    def open_source(data, split, data_dir=None):
        asked.update(data=data, split=split, data_dir=data_dir)
        return MADE_UP

    def evaluation_batches(source, *numbers, on_error, preprocessing):
        asked.update(numbers=numbers, on_error=on_error, taken=preprocessing.crop_mode)
        images, labels = (
            tiny_images(7),
            np.eye(5, dtype="float32")[[0, 1, 2, 3, 4, 0, 1]],
        )
        return [(images[:4], labels[:4]), (images[4:], labels[4:])]

    monkeypatch.setattr(widenet_keras.data.labelled, "open_source", open_source)
    monkeypatch.setattr(
        widenet_keras.data.labelled, "evaluation_batches", evaluation_batches
    )
    return asked


def test_sources_get_what_was_asked_for(asked, capsys, vit):
    options = ["--split", "test", "--batch-size", "4", "--on-error", "skip"]
    main(["evaluate", vit, "--data", "here", "--data-dir", "there", *options])
    printed = capsys.readouterr().out
    assert "seven images" in printed
    assert "eel" in printed
    assert asked == {
        "data": "here",
        "split": "test",
        "data_dir": Path("there"),
        # Image size, channels, classes, batch size.
        "numbers": (12, 3, 5, 4),
        "on_error": "skip",
        # As images of 12 pixels are, of which nobody said how they were trained on.
        "taken": "squash",
    }


def test_images_of_another_size_are_read_at_that_size(asked, capsys, vit):
    # The made-up images stay at 12 pixels, so this is also the wrong size.
    arguments = ["evaluate", vit, "--data", "here", "--image-size", "16"]
    stopped(capsys, arguments, 1, "(4, 12, 12, 3)", "16, 16, 3")
    assert asked["numbers"] == (16, 3, 5, 64)


def test_a_source_of_other_classes_is_one_line(asked, capsys):
    arguments = ["evaluate", DIGITS, "--data", "here"]
    stopped(capsys, arguments, 1, "here has 5 classes and the model has 10")


@pytest.fixture(scope="module")
def disk(tmp_path_factory):
    """Returns six images of 5 classes as an .npz file and as class folders."""
    folder = tmp_path_factory.mktemp("images")
    pixels = np.random.default_rng(0).integers(0, 256, (6, 12, 12, 3), dtype="uint8")
    labels = np.array([0, 1, 2, 3, 4, 0])
    arrays = folder / "images.npz"
    np.savez(arrays, x_train=pixels, y_train=labels, x_test=pixels, y_test=labels)
    for index, (image, label) in enumerate(zip(pixels, labels, strict=True)):
        path = folder / "folders" / "test" / f"class{label}" / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        imsave(path, image)
    return {"arrays": arrays, "folders": folder / "folders"}


@pytest.mark.parametrize(("kind", "first"), [("arrays", "0"), ("folders", "class0")])
def test_images_on_disk(capsys, disk, vit, kind, first):
    pytest.importorskip("tensorflow")
    main(["evaluate", vit, "--data", str(disk[kind]), "--batch-size", "4"])
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["images", "6"] in lines
    # Five classes are few enough to name them all; class 0 has two images.
    assert [line[:2] for line in lines if line[:1] == [first]] == [[first, "2"]]


def test_a_broken_image_stops_or_is_left_out(capsys, disk, tmp_path, vit):
    folder = tmp_path / "broken"
    shutil.copytree(disk["folders"], folder)
    (folder / "test" / "class3" / "3.png").write_bytes(b"no image")
    arguments = ["evaluate", vit, "--data", str(folder), "--batch-size", "4"]
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 1
    [line] = capsys.readouterr().err.splitlines()
    assert "class3/3.png cannot be read" in line
    main([*arguments, "--on-error", "skip"])
    printed = capsys.readouterr()
    assert "skipped" in printed.err
    assert "images             5" in printed.out


def test_data_that_do_not_exist_are_one_line(capsys, vit):
    arguments = ["evaluate", vit, "--data", "nowhere"]
    stopped(capsys, arguments, 1, "nowhere does not exist")
