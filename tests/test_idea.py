"""The picture of the idea, whose bars are counted on the models."""

import numpy as np
import pytest
from conftest import tiny_model

import widenet_keras

pytest.importorskip("tyro")

import idea


@pytest.mark.parametrize("preset", ["vit_digits", "vit_moe_digits", "widenet_digits"])
def test_the_parts_are_all_of_a_model(preset):
    counts = idea.counted(preset)
    model = widenet_keras.ImageClassifier.from_preset(preset)
    assert sum(counts.values()) == model.count_params()
    assert (counts["experts"] > 0) == (preset != "vit_digits")
    # D = 64: four kernels and biases, in every step or once.
    steps = 1 if preset == "widenet_digits" else 3
    assert counts["attention"] == steps * 4 * (64 * 64 + 64)
    # Three steps, two norms each, a scale and a shift of 64.
    assert counts["norms of the steps"] == 3 * 2 * 2 * 64


def test_a_ring_and_pieces_are_parts_of_their_own(monkeypatch):
    model = tiny_model("vit", steps=2, ring_size=400, pieces=(widenet_keras.Prompt(3),))
    kind = widenet_keras.ImageClassifier
    monkeypatch.setattr(kind, "from_preset", lambda preset: model)
    counts = idea.counted("one")
    assert counts["ring"] == 400
    pieces = model.encoder.stacked_pieces.weights
    assert counts["pieces"] == sum(int(np.prod(weight.shape)) for weight in pieces)


def test_the_picture_is_drawn(tmp_path):
    path = tmp_path / "idea.png"
    idea.main(idea.Idea(output=path, models=("vit_digits", "widenet_digits")))
    assert path.read_bytes().startswith(b"\x89PNG")
