"""Models under a changed configuration, and models as text."""

import numpy as np
import pytest
from conftest import numpy, one_line, tiny_images, tiny_model

import widenet_keras
from widenet_keras.models.description import describe


def test_another_head_keeps_the_rest():
    model = tiny_model()
    other = model.adapted(num_classes=3, dropout=0.0)
    assert other(tiny_images()).shape == (4, 3)
    assert other.config.dropout == 0.0
    for mine, theirs in zip(model.weights, other.weights, strict=True):
        if "logits" not in mine.path:
            np.testing.assert_array_equal(numpy(mine), numpy(theirs))


def test_another_image_size_and_the_same_one():
    model = tiny_model()
    images = tiny_images()
    same = model.adapted(remat="full", engine="slots")
    np.testing.assert_allclose(numpy(same(images)), numpy(model(images)), atol=1e-5)
    assert model.adapted(image_size=16)(tiny_images(size=16)).shape == (4, 5)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"width": 24}, "adapted: width=24 would change the shape of embedding"),
        ({"sharing": "none"}, "adapted: sharing='none' would change the weights"),
        ({"heigth": 3}, "there is no field 'heigth'"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(fields, words):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        tiny_model().adapted(**fields)
    assert words in one_line(error)


def test_the_description_counts_every_parameter(kind):
    model = tiny_model(kind)
    lines = describe(model).splitlines()
    parts = [int(line.split()[-1].replace(",", "")) for line in lines[1:-2]]
    assert sum(parts) == model.count_params()
    assert int(lines[-2].split()[-1].replace(",", "")) == model.count_params()
    found = [line.split("  ")[1] for line in lines[1:-2]]
    # Embedding, steps, head, in whatever order they were made.
    expected = {"embedding", "attention", "norms of the steps", "head"}
    expected |= {"dense MLPs"} if kind != "widenet" else set()
    expected |= {"experts", "router"} if kind != "vit" else set()
    assert set(found) == expected


def test_fields_from_words():
    words = {"steps": "6", "remat": "full", "moe_blocks": "(-1,)", "dropout": "0.5"}
    assert widenet_keras.parse_fields(words) == {
        "steps": 6,
        "remat": "full",
        "moe_blocks": (-1,),
        "dropout": 0.5,
    }
