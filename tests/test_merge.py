"""Banks as their mean, and LoRA inside its products: the same answers."""

import collections

import keras
import numpy as np
import pytest
from conftest import BACKEND, numpy, one_line, tiny_images, tiny_model
from test_relax import assert_same_logits

import widenet_keras
from widenet_keras import merge
from widenet_keras.layers.pieces import Bottleneck
from widenet_keras.models.memory_use import parameter_count
from widenet_keras.models.weights import weights_by_path
from widenet_keras.routing.random_draws import SILENT

LORA = {"kind": "lora", "rank": 3}


@pytest.mark.parametrize("shared", ["up", "down", "none"])
def test_a_bank_becomes_its_mean(shared):
    piece = {"kind": "bottleneck", "rank": 2, "bank": 3, "shared": shared}
    model = tiny_model(steps=3, pieces=[piece, {"kind": "prompt", "count": 2}])
    merged = merge(model)
    assert [getattr(p, "bank", 1) for p in merged.config.pieces] == [1, 1]
    before, after = weights_by_path(model), weights_by_path(merged)
    of_banks = []
    for path, weight in before.items():
        wanted, found = numpy(weight), numpy(after[path])
        if wanted.ndim > found.ndim:
            wanted = numpy(keras.ops.mean(weight, axis=1))
            of_banks.append(path.rpartition("_")[0].split("/")[-1])
        np.testing.assert_array_equal(found, wanted)
    assert len(of_banks) == {"up": 2, "down": 2, "none": 4}[shared]
    # XLA arranges the sums of each program in its own way.
    images, atol = tiny_images(3), 1e-6 if BACKEND == "jax" else 0
    found, wanted = numpy(merged(images)), numpy(model(images))
    np.testing.assert_allclose(found, wanted, rtol=0, atol=atol)


def test_a_bank_of_lora_that_is_shared_becomes_one():
    piece = {**LORA, "bank": 2, "shared": "none"}
    model = tiny_model(steps=3, moe_blocks="none", pieces=[piece])
    merged = merge(model)
    [found] = merged.config.pieces
    assert (found.kind, found.bank, found.rank) == ("lora", 1, 3)
    assert_same_logits(merged, model)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("vit", {}),
        ("vit", {"bank": 3}),
        ("vit", {"on": ["query", "outer"], "bias": False}),
        ("vit_moe", {"on": ["hidden", "outer", "router", "key"]}),
        ("vit_moe", {"experts": "shared"}),
    ],
)
def test_lora_of_unshared_blocks_is_added_to_them(kind, fields):
    bottleneck = {"kind": "bottleneck", "rank": 2}
    model = tiny_model(kind, pieces=[{**LORA, **fields}, bottleneck])
    model.frozen = ("embedding", "norms")
    merged = merge(model)
    assert [piece.kind for piece in merged.config.pieces] == ["bottleneck"]
    assert merged.config.sharing == "none"
    assert merged.frozen == model.frozen
    assert_same_logits(merged, model)


def test_counts_of_adamix():
    def of_pieces(model):
        fields = widenet_keras.preset_config("vit_b16").to_dict()
        more = parameter_count({**fields, "pieces": model})
        return more - parameter_count(fields)

    bank = {"kind": "bottleneck", "rank": 48, "bank": 4}
    assert of_pieces([bank]) == 2_223_360
    assert of_pieces([{**bank, "bank": 1}]) == 894_528


@pytest.mark.parametrize(("shared", "equal"), [("down", True), ("up", False)])
def test_the_mean_of_all_choices(shared, equal, rng):
    """It is what the merged adapter gives if only the last product is a bank."""
    piece = Bottleneck(2, bank=3, shared=shared)
    sides = {"down": (4, 2), "down_bias": (2,), "up": (2, 4), "up_bias": (4,)}
    w = {
        name: rng.normal(size=size if name.startswith(shared) else (3, *size))
        for name, size in sides.items()
    }
    output = keras.ops.convert_to_tensor(rng.normal(size=(2, 5, 4)), "float32")

    def given(weights, of):
        values = (np.asarray(value, "float32") for value in weights.values())
        named = collections.namedtuple("w", weights)
        named = named(*map(keras.ops.convert_to_tensor, values))
        return numpy(of.feed_forward(of.drawn(named, SILENT), output, SILENT))

    one = Bottleneck(2)
    choices = [
        {n: v if n.startswith(shared) else v[copy] for n, v in w.items()}
        for copy in range(3)
    ]
    mean = np.mean([given(choice, one) for choice in choices], axis=0)
    merged = {n: v if n.startswith(shared) else v.mean(axis=0) for n, v in w.items()}
    found = given(merged, one)
    np.testing.assert_allclose(given(w, piece), found, atol=1e-6)
    assert np.allclose(mean, found, atol=1e-5) == equal


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"kind": "vit"}, "has nothing to merge"),
        ({"pieces": [{"kind": "bottleneck", "rank": 2}]}, "bank=2 or more"),
        ({"pieces": [LORA]}, r"untie\(\) takes LoRA of shared blocks"),
        (
            {"kind": "vit", "sharing": "attention", "pieces": [LORA]},
            r"untie\(\) takes LoRA of shared blocks",
        ),
    ],
)
def test_nothing_to_merge_is_one_line(fields, words):
    with pytest.raises(ValueError, match=words) as error:
        merge(tiny_model(**fields))
    one_line(error)
