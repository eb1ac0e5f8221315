"""Pieces of a frozen model in training, and what they weigh."""

import math

import numpy as np
import pytest
from conftest import (
    BACKEND,
    RUN_EAGERLY,
    numpy,
    one_line,
    slow,
    tiny_images,
    tiny_model,
)
from test_kinds_of_pieces import EVERYWHERE

import widenet_keras
from widenet_keras import Bottleneck, ImageClassifier, KeyValuePrompt, LoRA, Prompt
from widenet_keras.models.frozen import trained_parameters
from widenet_keras.optimizers.optimizers import AdamW, Lamb
from widenet_keras.runs.checkpoints import Checkpoints
from widenet_keras.utils.roles import role_of

IMAGES, LABELS = tiny_images(4), np.array([0, 1, 2, 3])
PIECES = (
    LoRA(2, on=EVERYWHERE),
    Bottleneck(3, bank=2),
    Prompt(2, segments=4),
    KeyValuePrompt(2),
)
BACKBONE = ("embedding", "core", "norms")
OPTIMIZERS = {
    "adamw": lambda: AdamW(0.1, weight_decay=0.5, global_clipnorm=10.0),
    "lamb": lambda: Lamb(0.1, weight_decay=0.5),
    "average": lambda: AdamW(0.1, weight_decay=0.5, use_ema=True, ema_momentum=0.5),
}


def tuned_model(optimizer, frozen=BACKBONE):
    """Returns a compiled model with all kinds of pieces, and its mask, half pruned."""
    model = tiny_model("vit_moe", pieces=PIECES)
    [mask] = [w for w in model.weights if w.path.endswith("prompt_mask")]
    mask.assign(np.tile([0.0, 1.0], (3, 2, 2)))
    model.frozen = frozen
    optimizer = OPTIMIZERS[optimizer]()
    model.compile(optimizer, run_eagerly=RUN_EAGERLY)
    return model, mask


@pytest.mark.parametrize(
    "optimizer",
    [slow(name, when=BACKEND != "torch" and name != "adamw") for name in OPTIMIZERS],
)
def test_only_what_is_named_changes(optimizer):
    model, mask = tuned_model(optimizer)
    before = {w.path: numpy(w) for w in model.weights}
    model.fit(IMAGES, LABELS, batch_size=4, epochs=5, verbose=0)
    after = {w.path: numpy(w) for w in model.weights}
    changed = {path for path, old in before.items() if (after[path] != old).any()}
    trained = {
        w.path
        for w in model.weights
        if role_of(w).group in ("pieces", "head") and w is not mask
    }
    assert changed == trained
    assert {w.path for w in model.trainable_variables} == trained
    slots = 3 if optimizer == "average" else 2
    assert len(model.optimizer.variables) == 2 + slots * len(trained)
    # What is pruned gives nothing, whatever training and decay made of it.
    [prompt] = [w for w in model.weights if w.path.endswith("prompt_prompt")]
    wanted, value = numpy(model(IMAGES)), numpy(prompt).copy()
    value[..., ::2] = 7.0
    prompt.assign(value)
    np.testing.assert_array_equal(numpy(model(IMAGES)), wanted)
    value[..., 1] = 7.0
    prompt.assign(value)
    assert np.abs(numpy(model(IMAGES)) - wanted).max() > 1e-3


def test_nothing_trains_a_mask():
    model, mask = tuned_model("adamw")
    model.frozen = ()
    assert mask in model.non_trainable_variables
    model.trainable = True
    assert mask in model.non_trainable_variables
    model.frozen = ("pieces",)
    model.frozen = ()
    assert mask in model.non_trainable_variables


def test_a_checkpoint_has_the_state_of_what_is_trained(tmp_path):
    sizes = {}
    for name, frozen in (("tuned", BACKBONE), ("whole", ())):
        model, _ = tuned_model("adamw", frozen)
        checkpoints = Checkpoints(tmp_path / name)
        calls = [checkpoints]
        model.fit(IMAGES, LABELS, batch_size=4, epochs=1, callbacks=calls, verbose=0)
        sizes[name] = checkpoints.last.stat().st_size
        restored, _ = tuned_model("adamw", frozen)
        assert Checkpoints(tmp_path / name).restore(restored).epochs == 1
        for mine, theirs in zip(restored.variables, model.variables, strict=True):
            np.testing.assert_array_equal(numpy(mine), numpy(theirs))
    tuned, _ = tuned_model("adamw")
    # Two moments of four bytes each.
    state = 8 * (trained_parameters(model) - trained_parameters(tuned))
    assert sizes["whole"] - sizes["tuned"] > 0.9 * state


def counted(weights):
    return sum(math.prod(weight.shape) for weight in weights if weight.trainable)


@pytest.mark.parametrize(
    ("pieces", "count"),
    [
        ([Prompt(10)], 92_160),
        ([Prompt(10, segments=16), KeyValuePrompt(5)], 92_160 + 46_080),
        ([KeyValuePrompt(5, shared=False)], 92_160),
        ([Bottleneck(48, bank=4)], 2_223_360),
        ([Bottleneck(48)], 894_528),
    ],
)
@pytest.mark.usefixtures("without_values")
def test_parameters_of_the_papers(pieces, count):
    model = ImageClassifier.from_preset("vit_b16", pieces=pieces)
    assert counted(model.encoder.stacked_pieces.weights) == count


@pytest.mark.parametrize(
    ("preset", "fields", "count"),
    [
        ("vit_b16", {"shared_norms": True}, 44_630_248),
        ("vit_b16", {"shared_norms": True, "steps": 24}, 44_630_248),
        ("vit_b16", {}, 44_648_680),
        ("vit_b16", {"pieces": [LoRA(64)]}, 55_348_456),
        ("rmsl_small_32", {}, 1_249_354),
        ("relaxed_small_32", {}, 1_435_210),
        ("multipath_small_32", {}, 2_440_538),
        ("m6t_small_32", {}, 3_724_490),
        ("rpg_small_32", {}, 1_257_802),
    ],
)
@pytest.mark.usefixtures("without_values")
def test_parameters_of_depths_that_repeat(preset, fields, count):
    if preset == "vit_b16":
        fields = {"sharing": "cycle", "unique_blocks": 6, **fields}
    model = ImageClassifier.from_preset(preset, **fields)
    assert counted(model.weights) == count


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: LoRA(0), "rank=0"),
        (lambda: LoRA(2.5), "rank=2.5"),
        (lambda: LoRA(on="query"), "on='query' must be a tuple"),
        (lambda: LoRA(on=()), "on=() must be a tuple"),
        (lambda: LoRA(on=None), "on=None must be a tuple"),
        (lambda: LoRA(on=5), "on=5 must be a tuple"),
        (lambda: LoRA(on=("key", "key")), "names a product twice"),
        (lambda: LoRA(on=("querry",)), "Did you mean 'query'?"),
        (lambda: LoRA(experts="all"), "experts='all'"),
        (lambda: LoRA(bias=1), "bias=1"),
        (lambda: LoRA(bank=0), "bank=0"),
        (lambda: LoRA(bank=2, shared="both"), "shared='both'"),
        (lambda: Bottleneck(0), "rank=0"),
        (lambda: Bottleneck(bank=0), "bank=0"),
        (lambda: Bottleneck(bank=True), "bank=True"),
        (lambda: Bottleneck(activation="gelu2"), "Did you mean 'gelu'?"),
        (lambda: Bottleneck(init="zeros"), "init='zeros'"),
        (lambda: Prompt(0), "count=0"),
        (lambda: Prompt(dropout=1.0), "dropout=1.0"),
        (lambda: Prompt(segments=-1), "segments=-1"),
        (lambda: KeyValuePrompt(0), "count=0"),
        (lambda: KeyValuePrompt(shared="yes"), "shared='yes'"),
        (
            lambda: of([Prompt(2, segments=5)]),
            "segments=5 does not divide the width 12",
        ),
        (lambda: of([LoRA(bank=2)], "vit_moe"), "bank=2 is not for mixtures"),
        (lambda: of([LoRA(on=("router",))]), "none of the products on=('router',)"),
        (lambda: of([LoRA(on=("gate",))]), "none of the products on=('gate',)"),
        (lambda: of([{"kind": "lorra"}]), "Did you mean 'lora'?"),
        (lambda: of([{"kind": "lora", "ranks": 3}]), "Did you mean 'rank'?"),
        (lambda: of([{"rank": 3}]), "give a dict with a 'kind'"),
        (lambda: of(["lora"]), "give a dict with a 'kind'"),
        (lambda: of("lora"), "must be a list of pieces"),
        (lambda: of({"kind": "lora"}), "must be a list of pieces"),
        (lambda: of([LoRA(), LoRA(2)]), "'lora' twice"),
    ],
)
def test_what_cannot_be_is_one_line(make, words):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        make()
    assert words in one_line(error)


def of(pieces, kind="vit"):
    """Returns a tiny model with pieces."""
    return tiny_model(kind, pieces=pieces)


def test_pairs_that_are_one_need_one_width():
    layers = widenet_keras.layers
    attention = layers.Attention(2, key_dim=3, value_dim=4)
    block = layers.Block(attention, layers.FeedForward(5))
    encoder = layers.Encoder([block], 1, pieces=[KeyValuePrompt(2)])
    with pytest.raises(ValueError, match="use shared=False") as error:
        encoder.build((None, 4, 8))
    one_line(error)
    block = layers.Block(layers.Attention(2, 0.0, 3, 4), layers.FeedForward(5))
    pieces = [KeyValuePrompt(2, shared=False), Prompt(3), LoRA(2)]
    encoder = layers.Encoder([block], 2, pieces=pieces)
    tokens = np.ones((2, 4, 8), "float32")
    assert tuple(encoder(tokens)[0].shape) == (2, 4, 8)


def test_fields_of_a_command_line():
    words = {"pieces": "[{'kind': 'lora', 'rank': 8}, {'kind': 'prompt'}]"}
    fields = widenet_keras.models.parse_fields(words)
    config = widenet_keras.preset_config("vit_digits", **fields)
    assert config.pieces == (LoRA(8), Prompt())
    again = widenet_keras.preset_config("vit_digits", **config.to_dict())
    assert again == config
