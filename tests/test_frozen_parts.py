"""Parts of a model that are not trained: they stay, all others move, files keep it."""

import math

import numpy as np
import pytest
from conftest import (
    BACKEND,
    RUN_EAGERLY,
    numpy,
    one_line,
    slow,
    slow_on,
    tiny_images,
    tiny_model,
)
from test_pieces import Busy

import widenet_keras
from widenet_keras.layers.pieces import KINDS
from widenet_keras.models.description import describe
from widenet_keras.utils.roles import GROUPS, role_of

IMAGES, LABELS = tiny_images(4), np.array([0, 1, 2, 3])
CASES = [("embedding", "core"), *((group,) for group in GROUPS), GROUPS[:-1]]


@pytest.fixture(autouse=True)
def _kinds(monkeypatch):
    monkeypatch.setitem(KINDS, Busy.kind, Busy)


def parameters(model, groups):
    """Returns the number of parameters in some groups."""
    weights = [w for w in model.weights if role_of(w).group in groups]
    return sum(math.prod(weight.shape) for weight in weights)


def moved(model):
    """Returns the groups of weights that an epoch changes."""
    before = [numpy(weight) for weight in model.weights]
    model.fit(IMAGES, LABELS, batch_size=4, verbose=0)
    pairs = zip(model.weights, before, strict=True)
    return {role_of(w).group for w, old in pairs if (numpy(w) != old).any()}


@slow_on("jax")
@pytest.mark.parametrize(
    "frozen",
    [slow(case, when=BACKEND != "torch" and case != CASES[0]) for case in CASES],
)
def test_what_is_frozen_stays_and_all_else_is_trained(frozen):
    model = tiny_model(pieces=[Busy()])
    model.frozen = frozen
    assert set(model.frozen) == set(frozen)
    model.compile("adam", run_eagerly=RUN_EAGERLY)
    assert moved(model) == set(GROUPS) - set(frozen)
    # What is not trained has no state in the optimizer.
    assert len(model.optimizer.variables) == 2 + 2 * len(model.trainable_variables)


@slow_on("jax")
def test_it_may_change_after_compile():
    model = tiny_model(steps=1)
    # In a graph, which would go on training what it was traced with.
    model.compile("adam")
    model.frozen = ("embedding", "core", "norms")
    assert moved(model) == {"head"}
    model.frozen = ()
    assert moved(model) == {"embedding", "core", "norms", "head"}


def test_layers_and_groups_are_one_thing():
    model = tiny_model("vit")
    model.encoder.trainable = False
    assert model.frozen == ("core", "norms")
    model.frozen = ("head",)
    assert {role_of(w).group for w in model.non_trainable_weights} == {"head"}
    assert model.encoder.trainable
    model.frozen = ()
    assert not model.non_trainable_weights


def test_files_and_copies_keep_it(tmp_path):
    model = tiny_model("vit")
    model.frozen = ("embedding", "norms")
    model.compile("adam")
    model.fit(IMAGES, LABELS, verbose=0)
    model.save(tmp_path / "model.keras")
    again = widenet_keras.load_model(tmp_path / "model.keras")
    assert again.frozen == model.frozen == model.adapted().frozen
    pairs = zip(again.optimizer.variables, model.optimizer.variables, strict=True)
    for mine, theirs in pairs:
        np.testing.assert_array_equal(numpy(mine), numpy(theirs))
    assert moved(again) == {"core", "head"}
    assert model.adapted(frozen=()).frozen == ()
    tuned = model.adapted(num_classes=3, frozen=("embedding", "core"))
    assert tuned.frozen == ("embedding", "core")
    assert tuned.quantization is None
    tuned.quantize("int8")
    assert tuned.frozen == ("embedding", "core")


def test_layers_are_named_by_their_paths(tmp_path):
    model = tiny_model("vit", representation=False)
    parts = ("embedding", "core", "norms", "head/norm")
    model.frozen = parts
    trained = [weight.path.split("/", 1)[1] for weight in model.trainable_weights]
    assert trained == ["head/logits/kernel", "head/logits/bias"]
    model.save(tmp_path / "model.keras")
    again = widenet_keras.load_model(tmp_path / "model.keras")
    assert model.frozen == again.frozen == model.adapted().frozen == parts
    model.frozen = ("encoder/block_0",)
    assert {layer.split("/")[1] for layer in model.frozen} == {"block_0"}


def test_presets_take_it():
    model = widenet_keras.ImageClassifier.from_preset(
        "vit_digits", frozen=("embedding", "core")
    )
    assert model.frozen == ("embedding", "core")


def test_what_is_trained_is_counted():
    model = tiny_model("vit")
    assert "trained" not in describe(model)
    model.frozen = ("embedding", "core")
    trained = parameters(model, ("norms", "head"))
    total = model.count_params()
    assert 0 < trained < total
    [line] = [line for line in describe(model).splitlines() if "trained" in line]
    assert line.split() == ["trained", f"{trained:,}", "of", f"{total:,}"]
    lines = []
    model.summary(print_fn=lines.append)
    [line] = [line for line in "\n".join(lines).splitlines() if " Trainable" in line]
    assert f"{trained:,} " in line


@pytest.mark.parametrize(
    ("groups", "pieces"),
    [
        (("body",), ["frozen='body'", "'embedding', 'core', 'norms'"]),
        (("cores",), ["Did you mean 'core'?"]),
        ("core", ["frozen='core' is no tuple"]),
        (None, ["frozen=None is no tuple"]),
        ((3,), ["frozen=3"]),
        (("head/nrom",), ["frozen='head/nrom'", "Did you mean 'head/norm'?"]),
    ],
)
def test_unknown_groups_are_refused_with_one_line(groups, pieces):
    model = tiny_model("vit")
    with pytest.raises(ValueError, match="frozen=") as error:
        model.frozen = groups
    line = one_line(error)
    assert [piece for piece in pieces if piece not in line] == [], line
    assert model.frozen == ()


def test_a_fresh_last_layer_is_not_frozen():
    model = tiny_model("vit")
    with pytest.raises(ValueError, match="without 'head'") as error:
        model.adapted(num_classes=3, frozen=("head",))
    one_line(error)
    assert model.adapted(frozen=("head",)).frozen == ("head",)


def test_what_starts_anew_is_trained():
    model = tiny_model("vit")
    model.frozen = ("core", "head")
    assert model.adapted(num_classes=3).frozen == ("core",)
    assert model.adapted(num_classes=0, frozen=("head",)).config.num_classes == 0
    with pytest.raises(ValueError, match="starts anew"):
        model.adapted(num_classes=3, frozen=("head",))


def test_a_kernel_under_lora_stays_frozen():
    model = tiny_model("vit")
    product = model.encoder.blocks[0].attention.query_projection
    product.enable_lora(2)
    model.frozen = ("embedding",)
    assert not product._kernel.trainable
    assert product.lora_kernel_a.trainable
