"""Models under a changed configuration, and models as text."""

import numpy as np
import pytest
from conftest import BACKEND, numpy, one_line, shake, slow, tiny_images, tiny_model

import widenet_keras
from widenet_keras import LoRA
from widenet_keras.layers import heads
from widenet_keras.models.description import describe
from widenet_keras.models.weights import weights_by_path


def test_another_head_keeps_the_rest():
    model = tiny_model()
    other = model.adapted(num_classes=3, dropout=0.0)
    assert other(tiny_images()).shape == (4, 3)
    named = model.adapted(class_names=(name for name in "abc"))
    assert named.class_names == ("a", "b", "c")
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


IDLE = [
    {"kind": "lora", "rank": 2, "on": ["query", "output", "hidden", "router"]},
    {"kind": "bottleneck", "rank": 2},
]


@pytest.mark.parametrize("kind", ["vit", slow("vit_moe")])
def test_pieces_that_start_without_effect_leave_every_bit(kind, monkeypatch):
    # Pieces have products of their own; those joined to one are summed otherwise.
    monkeypatch.setattr(heads, "_SMALL_WIDTH", 0)
    model, images = tiny_model(kind), tiny_images()
    wanted = numpy(model(images))
    tuned = model.adapted(pieces=IDLE[1:])
    both = tuned.adapted(pieces=[LoRA(2, on=IDLE[0]["on"]), *tuned.config.pieces])
    # XLA arranges the sums of each program in its own way.
    atol = 1e-6 if BACKEND == "jax" else 0
    for other in (tuned, both):
        np.testing.assert_allclose(numpy(other(images)), wanted, rtol=0, atol=atol)
    assert both.config == tuned.config.replace(pieces=IDLE)
    # And out again, with what was learned elsewhere.
    shake(both.weights)
    less = both.adapted(pieces=[IDLE[1]])
    before, after = weights_by_path(both), weights_by_path(less)
    gone = [path for path in before if path not in after]
    assert len(gone) == (9 if kind == "vit" else 14)
    assert all(path.startswith("encoder/pieces/lora_") for path in gone)
    for path, weight in after.items():
        np.testing.assert_array_equal(numpy(weight), numpy(before[path]))


def test_pieces_that_start_anew_are_trained():
    model = tiny_model("vit", pieces=IDLE[1:])
    model.frozen = ("core", "pieces")
    assert model.adapted(dropout=0.1).frozen == ("core", "pieces")
    assert model.adapted(pieces=IDLE).frozen == ("core",)
    assert model.adapted(pieces=()).frozen == ("core",)
    for part in ("pieces", "encoder/pieces"):
        with pytest.raises(ValueError, match="pieces start anew") as error:
            model.adapted(pieces=IDLE, frozen=(part,))
        assert f"without {part!r}" in one_line(error)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"pieces": [{"kind": "bottleneck", "rank": 3}]}, "encoder/pieces/bottleneck"),
        (
            {"pieces": [{"kind": "bottleneck", "rank": 2, "bank": 2}]},
            "adapted(pieces=()).adapted(pieces=[...])",
        ),
        ({"pieces": [], "steps": 3}, "would change the weights themselves"),
        ({"pieces": [], "representation": False}, "would change the weights"),
        ({"pieces": [{"kind": "lore"}]}, "Did you mean 'lora'"),
    ],
)
def test_pieces_that_do_not_fit_are_refused_in_one_line(fields, words):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        tiny_model("vit", pieces=IDLE[1:]).adapted(**fields)
    assert words in one_line(error)


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


def test_a_stack_without_norms_of_its_steps_may_be_taken_more_often():
    """As RMSL has it: no weight depends on the number of steps."""
    cycle = {"steps": 2, "sharing": "cycle", "unique_blocks": 2}
    model = tiny_model("vit", **cycle, shared_norms=True)
    tokens = model.embedding(tiny_images(2))
    for _ in range(3):
        tokens, _ = model.encoder(tokens)
    more = model.adapted(steps=6)
    assert more.count_params() == model.count_params()
    wanted = numpy(model.head(tokens))
    np.testing.assert_allclose(numpy(more(tiny_images(2))), wanted, atol=1e-5)
    with pytest.raises(ValueError, match="norm1/gamma") as error:
        tiny_model("vit", **cycle).adapted(steps=6)
    one_line(error)


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
    assert widenet_keras.models.parse_fields(words) == {
        "steps": 6,
        "remat": "full",
        "moe_blocks": (-1,),
        "dropout": 0.5,
    }
