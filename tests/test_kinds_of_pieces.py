"""Kinds of pieces, alone and with others, and groups: equal to loops in float64."""

import keras
import numpy as np
import oracle_pieces as oracle
import pytest
from conftest import BACKEND, numpy, slow, tiny_images, tiny_model
from gradients import value_and_gradients
from oracle import weights_by_path

from widenet_keras import (
    Bottleneck,
    HeadMix,
    KeyValuePrompt,
    LoRA,
    Projection,
    Prompt,
    RelativeKeys,
    ResidualScale,
    TokenConv,
)
from widenet_keras.layers.pieces.lora import MAPS, ROUTER

EVERYWHERE = (*MAPS, ROUTER)
QUIET = {"router_noise": 0.0}
KINDS_AT_ONCE = (
    LoRA(3, on=EVERYWHERE),
    Bottleneck(5),
    Prompt(2, dropout=0.0, segments=4),
    KeyValuePrompt(3),
    RelativeKeys(),
    HeadMix(),
    ResidualScale("step"),
    Projection(0.6, activation="silu"),
    TokenConv(3),
)
GRID = {"class_token": False}
# Offsets up to 4, of which 2 and 3 are in one bucket.
LARGER = {"image_size": 20}
# One patch and no class token: one token, of one image.
ONE_TOKEN = {"class_token": False, "patch_size": 12, "pooling": "mean"}
GROUPS = {
    "steps": 4,
    "sharing": "cycle",
    "unique_blocks": 2,
    "class_token": False,
    "pooling": "mean",
    "attention_groups": 3,
}
# Name -> (kind, pieces, further fields, images).
CASES = {
    "all at once": ("vit_moe", KINDS_AT_ONCE, GRID, 2),
    "lora, a gate": (
        "vit",
        [LoRA(3)],
        {"gated": True, "activation": "silu", "width": 15},
        2,
    ),
    "lora, larger than the maps, without biases": (
        "vit",
        [LoRA(50, on=EVERYWHERE[:-1], bias=False)],
        {},
        1,
    ),
    "lora, a part of the maps": ("widenet", [LoRA(2, on=("value", "outer"))], {}, 2),
    "lora, experts of one": (
        "widenet",
        [LoRA(2, on=EVERYWHERE, experts="shared")],
        {},
        2,
    ),
    "lora, a bank": ("vit", [LoRA(2, bank=3, shared="down")], {"gated": True}, 2),
    "bottleneck": (
        "vit_moe",
        [Bottleneck(5, activation="silu", init="published")],
        {},
        2,
    ),
    "bottleneck, a bank": ("widenet", [Bottleneck(3, bank=2, shared="none")], {}, 2),
    "prompts, and lora that they meet": (
        "vit",
        [Prompt(3, dropout=0.0, segments=4), LoRA(2, on=("query", "key", "value"))],
        {"pooling": "token_and_patches", "representation": False},
        2,
    ),
    "prompts, experts": ("widenet", [Prompt(2, dropout=0.0)], {}, 3),
    "pairs": ("vit", [KeyValuePrompt(3)], {}, 2),
    "keys and values": ("vit", [KeyValuePrompt(1, shared=False)], {}, 2),
    # Steps 2 and 3 read their blocks again; there are 9 tokens.
    "groups": (
        "vit",
        [ResidualScale(), Projection(norm_epsilon=0.1)],
        {**GROUPS, "attention_groups": (3, 1, 9, 3), "shared_norms": True},
        2,
    ),
    "groups, and pieces that they meet": (
        "widenet",
        # Relative keys need every token to see all.
        [piece for piece in KINDS_AT_ONCE if piece.kind != "relative_keys"],
        {**GROUPS, "steps": 3, "sharing": "all", "unique_blocks": None},
        2,
    ),
    "one token": ("vit", KINDS_AT_ONCE, ONE_TOKEN, 1),
    "one token, experts": ("widenet", KINDS_AT_ONCE, {**ONE_TOKEN, "top_k": 1}, 1),
    "one expert": (
        "widenet",
        KINDS_AT_ONCE,
        {**GRID, "top_k": 1, "capacity_factor": None},
        2,
    ),
    "head mix": ("widenet", [HeadMix("published")], {}, 2),
    "relative keys, a class token": ("vit", [RelativeKeys()], LARGER, 1),
    "relative keys, few": ("vit", [RelativeKeys(3)], {**LARGER, "width": 15}, 1),
    "heads mixed, then relative keys; in front of both what is no token": (
        "vit",
        [HeadMix(), RelativeKeys(), Prompt(2, dropout=0.0), KeyValuePrompt(1)],
        {**LARGER, **GRID, "pooling": "mean"},
        2,
    ),
    "token conv, wider than the grid": ("widenet", [TokenConv()], GRID, 2),
}
TOLD = ("all at once", "groups")


def model_of(name):
    """Returns the model of a case, with a mask that prunes, and its images."""
    kind, pieces, fields, count = CASES[name]
    model = tiny_model(kind, pieces=pieces, **{**QUIET, **fields})
    w = {weight.path.split("/", 1)[1]: weight for weight in model.weights}
    mask = w.get("encoder/pieces/prompt_mask")
    if mask is not None:
        mask.assign(np.random.default_rng(0).integers(0, 2, mask.shape))
    if name == "one expert":
        # What is routed is about one constant vector, which the router likes.
        w["encoder/norm2/gamma"].assign(0.1 * numpy(w["encoder/norm2/gamma"]))
        w["encoder/norm2/beta"].assign(np.ones(w["encoder/norm2/beta"].shape))
        router = w["encoder/block_0/feed_forward/router/kernel"]
        router.assign(np.eye(4)[2] + 0 * numpy(router))
    return model, tiny_images(count, model.config.image_size)


def cases(*told):
    """Returns the cases, of which backends that compile run some."""
    return [slow(name, when=BACKEND != "torch" and name not in told) for name in CASES]


@pytest.mark.parametrize("name", cases(*TOLD))
def test_output_and_gradients_are_those_of_a_loop(name):
    model, images = model_of(name)
    config, w = model.config, weights_by_path(model)
    # Where prompts stand is nothing to them.
    wanted, _ = oracle.model_forward(w, config, images, at=config.tokens)
    first = int(config.class_token)
    _, moes = oracle.model_forward(w, config, images, at=first)
    if name == "one expert":
        assert {e for moe in moes for e in moe.choices["wanted"].ravel()} == {2}
    variables = model.trainable_variables
    weight = np.random.default_rng(1).normal(size=wanted.shape)

    def loss():
        logits = model(images)
        return keras.ops.sum(
            logits * keras.ops.convert_to_tensor(weight, "float32")
        ), logits

    _, gradients, logits = value_and_gradients(loss, variables)
    np.testing.assert_allclose(numpy(logits), wanted, atol=2e-5)
    frozen, random = [moe.choices for moe in moes], np.random.default_rng(2)

    def along(path, direction, size):
        moved = {**w, path: w[path] + size * direction}
        found, _ = oracle.model_forward(moved, config, images, frozen=frozen, at=first)
        return (found * weight).sum()

    for variable, gradient in zip(variables, gradients, strict=True):
        path = variable.path.split("/", 1)[1]
        direction = random.normal(size=variable.shape)
        up, down = (along(path, direction, size) for size in (1e-4, -1e-4))
        found = (gradient * direction).sum()
        assert found == pytest.approx((up - down) / 2e-4, rel=2e-3, abs=2e-4), path
