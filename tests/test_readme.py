"""The Python of the README runs as it stands, on small data."""

import re
from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import BACKEND
from pictures import noisy_folders

import widenet_keras

ROOT = Path(__file__).parents[1]
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)

pytestmark = pytest.mark.skipif(BACKEND != "torch", reason="once is enough")


def block(*words):
    """Returns the block that has all of the words."""
    [found] = [each for each in BLOCKS if all(word in each for word in words)]
    return found


def run(code, **names):
    """Runs a block and returns the names that it leaves."""
    names = {"widenet_keras": widenet_keras, **names}
    exec(compile(code, "README.md", "exec"), names)
    return names


def test_ten_lines(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = block("load_digits").replace("epochs=20", "epochs=1")
    model = run(code)["model"]
    assert model.history.history["val_accuracy"][0] > 0.2
    assert {path.name for path in tmp_path.iterdir()} == {
        "routing.png",
        "model.keras",
        "model.tflite",
    }


def test_what_training_is_made_of_and_many_devices(tmp_path, monkeypatch):
    pytest.importorskip("tensorflow")
    monkeypatch.chdir(tmp_path)
    noisy_folders(tmp_path / "flowers", train=6, validation=3)
    # Two images of two patches for 64 of 196.
    made = block("training_batches(", "rates=").replace(" 64, Aug", " 2, Aug")
    made = made.replace("224, 3", "32, 3")
    names = run(made)
    assert names["optimizer"].use_ema
    code = block("distribute(").replace("widenet_b16", "widenet_small_32")
    names = run(code.replace("20", "3"), **names)
    assert len(names["model"].history.history["loss"]) == 3


def test_a_shared_model_from_a_vit():
    fields = {"image_size": 8, "patch_size": 4, "width": 8, "heads": 2, "steps": 2}
    vit = widenet_keras.ImageClassifier.from_preset("vit_small_32", **fields)
    wide = run(block("tie("), vit=vit)["wide"]
    assert wide.config.sharing == "all"


def test_the_mixture_alone():
    tokens = keras.ops.convert_to_tensor(np.ones((2, 5, 8), "float32"))
    names = run(block("MixtureOfExperts("), tokens=tokens)
    assert tuple(names["outputs"].shape) == (2, 5, 8)


def test_every_block_is_run_here():
    assert len(BLOCKS) == 5
