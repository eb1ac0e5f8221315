"""The Python of the README runs as it stands, on small data."""

import re
from pathlib import Path

import keras
import numpy as np
import pytest
from pictures import noisy_folders

import widenet_keras

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
# The line before each block, by the block.
BLOCKS = {
    code: before
    for before, code in re.findall(
        r"([^\n]+)\n\n```python\n(.*?)```", README, re.DOTALL
    )
}


def block(*words):
    """Returns the block that has all of the words."""
    [found] = [each for each in BLOCKS if all(word in each for word in words)]
    return found


def run(code, **names):
    """Runs a block, with names that another left, and returns those that it leaves."""
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
    assert "goes on from the lines above" in BLOCKS[block("distribute(")]
    code = block("distribute(").replace("widenet_b16", "widenet_small_32")
    names = run(code.replace("20", "3"), **names)
    assert len(names["model"].history.history["loss"]) == 3


def test_a_shared_model_from_a_vit():
    made = run(block("tie(vit)"))
    assert made["wide"].config.sharing == "all"
    assert made["small"].config.num_unique_blocks == 2
    assert made["relaxed"].config.num_unique_blocks == 1
    assert made["plain"].config == made["vit"].config
    nested = run(block("extract("), **made)
    assert nested["narrow"].config.mlp_dim == 32
    assert [size.hidden for size in nested["mixed"].config.sizes] == [128, 32, 64]
    tuning = run(block("frozen="), **made)
    assert tuning["tuned"].config.num_classes == 5
    assert tuning["tuned"].frozen == ()
    assert tuning["prompts"].frozen == tuning["backbone"]
    assert tuning["shipped"].config.pieces == ()


def test_structures_of_other_systems():
    made = run(block("ring_size="))
    assert made["paths"].config.paths == 2
    assert made["plain"].config.ring_size is None
    assert made["groups"].config.groups_of_steps.counts == (4, 1, 4)
    assert [piece.kind for piece in made["mixed"].config.pieces] == ["head_mix"]


def test_the_mixture_in_a_model_of_ones_own():
    model = run(block("MixtureOfExperts("))["model"]
    random = np.random.default_rng(0)
    tokens = random.normal(size=(6, 64, 48)).astype("float32")
    model.fit(tokens, np.arange(6), batch_size=3, verbose=0)
    # The balance loss is there, and is what the layer added.
    assert len(model.losses) == 1
    assert 0.005 < keras.ops.convert_to_numpy(model.losses[0]) < 0.04


@pytest.fixture
def as_before():
    """Takes presets and engines that a block adds away again."""
    from widenet_keras.models.presets import PRESETS
    from widenet_keras.routing.engines import ENGINES

    yield
    for table in (PRESETS, ENGINES):
        for name in ("widenet_tiny_64", "every_expert"):
            table.pop(name, None)


def test_a_preset_of_ones_own(as_before):
    model = run(block("PRESETS["))["model"]
    assert model.config.image_size == 64
    assert "widenet_tiny_64" in widenet_keras.presets()


def test_an_engine_of_ones_own(as_before):
    model = run(block("class EveryExpert"))["model"]
    images = np.random.default_rng(0).normal(size=(3, 8, 8, 1)).astype("float32")
    wanted = model.adapted(engine="sorted")(images)
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(model(images)),
        keras.ops.convert_to_numpy(wanted),
        atol=1e-5,
    )


def test_every_block_is_run_here():
    assert len(BLOCKS) == README.count("```python") == 10
