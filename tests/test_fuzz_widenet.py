"""Random command lines of `widenet`: one line, and no wrong value is taken."""

from itertools import chain

import numpy as np
import pytest
from conftest import slow, tiny_model
from matplotlib.image import imsave

pytest.importorskip("tyro")

import keras

from widenet_keras.cli.main import main

# What a word may be, and whether it is right there. Words in capitals are files.
MODELS = {
    "MODEL": True,
    "PLAIN": False,
    "DAMAGED": False,
    "EMPTY": False,
    "TEXT": False,
    "PHOTO": False,
    "FOLDER": False,
    "nowhere.keras": False,
    "": False,
}
DATA = {
    "ARRAYS": True,
    "digits": False,  # other images than the model takes
    "tfds:no_such_set": False,
    "OTHER_CLASSES": False,
    "DAMAGED": False,
    "EMPTY": False,
    "TEXT": False,
    "PHOTO": False,
    "FOLDER": False,
    "nowhere": False,
    "": False,
}
IMAGES = {
    "PHOTO": True,
    "PHOTOS": True,
    "TEXT": False,
    "EMPTY": False,
    "FOLDER": False,
    "nowhere.png": False,
    "": False,
}
COUNTS = {"1": True, "3": True, "0": False, "-1": False, "1.5": False, "many": False}
EVERY = {"--backend": {"torch": True, "theano": False}, "--nonsense": {"1": False}}
OF_DATA = {
    "--split": {
        "train": True,
        "validation": True,
        "test": True,
        "tset": False,
        "": False,
    },
    "--data-dir": {"nowhere": True},
}
FLAGS = {
    "evaluate": {
        **EVERY,
        **OF_DATA,
        "--batch-size": COUNTS,
        "--image-size": {"12": True, "13": False, "0": False, "-4": False, "x": False},
        "--output": {"NEW": True, "TEXT": False},
        "--on-error": {"raise": True, "skip": True, "stop": False},
    },
    "export": {
        **EVERY,
        **OF_DATA,
        "--quantize": {"none": True, "float16": True, "int9": False, "int8": False},
        "--batch": {"dynamic": True, "0": False, "-1": False, "some": False},
        "--input": {"float": True, "jpeg": False, "png": False},
        "--samples": COUNTS,
        "--on-error": {"raise": True, "skip": True, "stop": False},
        "--min-agreement": {"-0.1": False, "99": False, "nan": False, "x": False},
        "--output": {"NEW_FILE": True, "FOLDER": False, "MODEL": False, "TEXT": False},
        "--data": DATA,
    },
    "predict": {
        **EVERY,
        "--top": {"1": True, "9": True, "0": False, "-1": False, "x": False},
        "--explain": {
            "NEW_PICTURE": True,
            "NEW_FILE": False,
            "FOLDER": False,
            "TEXT": False,
        },
    },
}
FORMATS = {"keras": True, "saved": False, "": False}


def draw(random, choices):
    """Returns one of the choices; those that are right as often as all others."""
    right = [word for word, is_right in choices.items() if is_right]
    words = right if right and random.random() < 0.7 else list(choices)
    return words[random.integers(len(words))]


def command_line(random):
    """Returns words and whether all are right."""
    name = list(FLAGS)[random.integers(len(FLAGS))]
    wanted = {
        "evaluate": [(None, MODELS), ("--data", DATA)],
        "export": [(None, MODELS), ("--format", FORMATS)],
        "predict": [(None, IMAGES), ("--model", MODELS)],
    }[name]
    flags = list(FLAGS[name].items())
    chosen = random.choice(len(flags), size=random.integers(0, 4), replace=False)
    parts = wanted + [flags[index] for index in chosen]
    right = True
    if random.random() < 0.05:
        parts.pop(0)
        right = False
    words = []
    for flag, choices in parts:
        word = draw(random, choices)
        right &= choices[word]
        words.append([word] if flag is None else [flag, word])
    if random.random() < 0.05:
        return [name[:-1], *chain.from_iterable(words)], False
    if random.random() < 0.05:
        words.append(["spare"])
        right = False
    random.shuffle(words)
    return [name, *chain.from_iterable(words)], right


@pytest.fixture
def files(tmp_path):
    """Returns the paths of the words in capitals."""
    random = np.random.default_rng(0)
    found = {
        "MODEL": "model.keras",
        "PLAIN": "plain.keras",
        "DAMAGED": "damaged.keras",
        "EMPTY": "empty.keras",
        "TEXT": "text.txt",
        "PHOTOS": "photos",
        "PHOTO": "photos/photo.png",
        "ARRAYS": "arrays.npz",
        "OTHER_CLASSES": "other.npz",
        "FOLDER": "folder",
    }
    found = {name: tmp_path / path for name, path in found.items()}
    model = tiny_model()
    model.save(found["MODEL"])
    keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(2)]).save(
        found["PLAIN"]
    )
    content = bytearray(found["MODEL"].read_bytes())
    content[len(content) // 2] ^= 255
    found["DAMAGED"].write_bytes(bytes(content))
    found["EMPTY"].write_bytes(b"")
    found["TEXT"].write_text("text\n")
    found["PHOTOS"].mkdir()
    found["FOLDER"].mkdir()
    (found["FOLDER"] / "kept").write_text("kept")
    pixels = random.integers(0, 256, (10, 12, 12, 3), "uint8")
    imsave(found["PHOTO"], pixels[0])
    for name, classes in (("ARRAYS", 5), ("OTHER_CLASSES", 7)):
        labels = np.arange(10) % classes
        np.savez(
            found[name], x_train=pixels, y_train=labels, x_test=pixels, y_test=labels
        )
    return found


def status_of(words):
    try:
        main(words)
    except SystemExit as end:
        return end.code or 0
    return 0


def complaint(status, right, printed):
    """Returns what is wrong with the end of a command, or None."""
    if status == 0:
        return None if right else "a wrong value is taken"
    lines = printed.splitlines()
    if right:
        return "right values are refused"
    if status not in (1, 2):
        return f"status {status}"
    if len(lines) != 1 or not lines[0].startswith("widenet"):
        return "not one line of the command"
    if "function_node" in lines[0] or not 20 < len(lines[0]) < 600:
        return "a line of a framework"
    return None


@pytest.mark.parametrize("count", [20, slow(2000)])
def test_command_lines(count, files, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(count)
    kept = {path: path.read_bytes() for path in files.values() if path.is_file()}
    done, wrong = 0, []
    for index in range(count):
        words, right = command_line(random)
        new = {
            "NEW": f"new{index}",
            "NEW_FILE": f"new{index}.keras",
            "NEW_PICTURE": f"new{index}.png",
        }
        given = [str(files.get(word, new.get(word, word))) for word in words]
        if words[0] == "export" and "--output" not in words:
            given += ["--output", new["NEW_FILE"]]
        status = status_of(given)
        printed = capsys.readouterr().err
        found = complaint(status, right, printed)
        if found:
            wrong.append((found, " ".join(words), printed))
        done += not status
    assert not wrong, "\n".join(map(str, wrong))
    assert done > count // 20
    # What was there is there, and nothing half-written is left.
    changed = [path for path, content in kept.items() if path.read_bytes() != content]
    assert changed == []
    assert [path.name for path in files["FOLDER"].iterdir()] == ["kept"]
    assert list(tmp_path.rglob(".*")) == []
