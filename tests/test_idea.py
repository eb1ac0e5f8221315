"""The picture of the idea, whose bars are counted on the models."""

import pytest

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


def test_the_picture_is_drawn(tmp_path):
    path = tmp_path / "idea.png"
    idea.main(idea.Idea(output=path, models=("vit_digits", "widenet_digits")))
    assert path.read_bytes().startswith(b"\x89PNG")
