"""What tokens look at: the numbers of a loop in NumPy, and what a head reads."""

import numpy as np
import oracle_pieces
import pytest
from conftest import numpy, one_line, tiny_images, tiny_model
from oracle import model_forward, weights_by_path

from widenet_keras import HeadMix, KeyValuePrompt, LoRA, Prompt, RelativeKeys
from widenet_keras.models.attention_map import AttentionMap
from widenet_keras.models.block_sizes import BlockSize

PLAIN = {"representation": False, "class_token": False, "pooling": "mean"}
IN_FRONT = (LoRA(rank=2), Prompt(count=2), KeyValuePrompt(count=3))


def looks_of(model, images):
    """What each token takes of the values of each token, (L, B, H, T, T)."""
    looks, config = [], model.config
    at, tokens = int(config.class_token), config.tokens
    weights = weights_by_path(model)
    oracle_pieces.model_forward(weights, config, images, at=at, looks=looks)
    prompts = sum(p.count for p in config.pieces if p.kind == "prompt")
    mine = np.delete(np.arange(tokens + prompts), range(at, at + prompts))
    looks = np.array(looks)[:, :, mine][..., mine]
    return looks.reshape(config.steps, len(images), *looks.shape[1:])


@pytest.mark.parametrize(
    "fields",
    [
        {"class_token": True},
        {"pieces": IN_FRONT, "registers": 0},
        {"pieces": (RelativeKeys(3), HeadMix()), "moe_blocks": "none", "steps": 3},
        {**PLAIN, "steps": 4, "attention_groups": (9, 3, 3, 1), "moe_blocks": "none"},
        {**PLAIN, "attention_groups": 3, "pieces": IN_FRONT},
    ],
    ids=["plain", "in_front", "mixed", "groups", "groups_in_front"],
)
def test_weights_are_those_of_numpy(fields):
    model, images = tiny_model(**fields), tiny_images(3)
    found, wanted = model.attention(images, batch_size=2), looks_of(model, images)
    assert found.weights.dtype == "float32"
    np.testing.assert_allclose(found.weights, wanted, atol=2e-6)
    with_more = any(p.kind in ("prompt", "head_mix") for p in model.config.pieces)
    assert np.allclose(found.weights.sum(-1), 1, atol=1e-5) != with_more


@pytest.mark.parametrize(
    "fields",
    [
        {"paths": 2, "moe_blocks": "none"},
        {
            "sharing": "none",
            "moe_blocks": "none",
            "block_sizes": [BlockSize(3, 4, 2, 7), BlockSize(1, 4, 4, 5)],
        },
        {"ring_size": 200, "sharing": "none", "moe_blocks": "none"},
    ],
    ids=["paths", "sizes", "ring"],
)
def test_weights_of_what_the_oracle_of_pieces_has_not(fields):
    model, images = tiny_model(**fields), tiny_images(2)
    found = model.attention(images)
    config, looks = model.config, []
    # A ring is blocks of which each has its place in it.
    plain = model.adapted(ring_size=None) if config.ring_size else model
    model_forward(weights_by_path(plain), plain.config, images, looks=looks)
    per_path = [size.heads for size in config.block_sizes or ()] or [config.heads] * 2
    assert found.heads == tuple(config.paths * heads for heads in per_path)
    for step, heads in enumerate(found.heads):
        mine = looks[step * config.paths : (step + 1) * config.paths]
        wanted = np.concatenate(mine, axis=1)
        np.testing.assert_allclose(found.weights[step, :, :heads], wanted, atol=2e-6)
        assert not found.weights[step, :, heads:].any()


def test_half_precision_and_int8():
    model, images = tiny_model("vit", pieces=IN_FRONT), tiny_images(2)
    wanted = model.attention(images).weights
    half = model.adapted(dtype="mixed_bfloat16").attention(images).weights
    model.quantize("int8")
    for each in (half, model.attention(images).weights):
        assert each.dtype == "float32"
        np.testing.assert_allclose(each, wanted, atol=0.05)


def test_what_the_head_reads_is_received():
    random = np.random.default_rng(0)
    weights = random.uniform(size=(2, 3, 4, 8, 8)).astype("float32")
    weights[1, :, 2:] = 0
    how = {"heads": (4, 2), "grid": (2, 3), "class_token": True, "registers": 1}
    token = AttentionMap(weights, **how, readers=(0, 1)).received(1)
    assert token.shape == (2, 2, 3)
    np.testing.assert_allclose(token[0].ravel(), weights[0, 1, :, 0, 2:].mean(0))
    rows = weights[1, 1, :2, 0, 2:].mean(0)
    np.testing.assert_allclose(token[1].ravel(), rows, rtol=1e-6)
    every = AttentionMap(weights, **how, readers=(2, 8)).received(2)
    rows = weights[0, 2, :, 2:, 2:].mean((0, 1))
    np.testing.assert_allclose(every[0].ravel(), rows, rtol=1e-6)


@pytest.mark.parametrize(
    ("pooling", "readers"),
    [
        ("mean", (0, 11)),
        ("token", (0, 1)),
        ("patches", (2, 11)),
        ("attention", (2, 11)),
        ("token_attention", (0, 1)),
        ("token_and_register", (0, 2)),
    ],
)
def test_readers_are_those_of_the_pooling(pooling, readers):
    fields = {"pooling": pooling, "registers": 1, "steps": 1, "representation": False}
    found = tiny_model("vit", **fields).attention(tiny_images(1))
    assert (found.readers, found.registers, found.grid) == (readers, 1, (3, 3))


def test_what_cannot_be_looked_at():
    model = tiny_model()
    for call, words in (
        (lambda: model.attention(tiny_images(1, size=8)), "(batch, 12, 12, 3)"),
        (lambda: model.attention(tiny_images(0)), "attention: there is no image"),
        (lambda: model.routing(tiny_images(0)), "routing: there is no image"),
        (lambda: model.attention(tiny_images(1), batch_size=0), "batch_size=0"),
        (lambda: model.routing(tiny_images(1), batch_size=0), "batch_size=0"),
    ):
        with pytest.raises(ValueError) as error:  # noqa: PT011
            call()
        assert words in one_line(error)


def test_prompts_in_half_precision():
    model = tiny_model(pieces=IN_FRONT, dtype="bfloat16")
    images = tiny_images(2)
    found = model.attention(images).weights
    exact = tiny_model(pieces=IN_FRONT)
    exact.set_weights([numpy(weight).astype("float32") for weight in model.weights])
    np.testing.assert_allclose(found, exact.attention(images).weights, atol=0.05)
