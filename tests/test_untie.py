"""Every step with a block of its own again: the same answers."""

import numpy as np
import pytest
from conftest import numpy, one_line, slow, tiny_images, tiny_model
from test_relax import assert_same_logits, quietly, source

from widenet_keras import relax, untie
from widenet_keras.models.weights import weights_by_path

LORA = {"kind": "lora", "rank": 3}
CYCLE = {"sharing": "cycle", "unique_blocks": 2, "steps": 5}
SHARED = {
    "widenet": {"steps": 3},
    "a rest": {**CYCLE, "moe_blocks": (1,)},
    "sequence": {"sharing": "sequence", "unique_blocks": 2, "steps": 4},
    "norms": {**CYCLE, "shared_norms": True, "moe_blocks": "none"},
    "attention": {"sharing": "attention", "steps": 3, "moe_blocks": (0,)},
    "one mixture": {"sharing": "feed_forward", "steps": 3, "shared_norms": True},
    "lora": {
        **CYCLE,
        "moe_blocks": (1,),
        "pieces": [{**LORA, "on": ["router", "key"]}],
    },
    "gated": {**CYCLE, "moe_blocks": "none", "gated": True, "pieces": [LORA]},
    "each expert": {**CYCLE, "moe_blocks": (1,), "pieces": [LORA]},
    "all experts": {"steps": 3, "pieces": [{**LORA, "experts": "shared"}]},
    "no biases": {"steps": 3, "pieces": [{**LORA, "bias": False}]},
    "widths": {"steps": 3, "step_widths": (14, 3, 7), "pieces": [LORA]},
    "gated widths": {
        **CYCLE,
        "moe_blocks": "none",
        "gated": True,
        "step_widths": (10, 4, 4, 10, 7),
        "pieces": [LORA, {"kind": "prompt", "count": 2}],
    },
    "sizes": {
        "sharing": "attention",
        "steps": 3,
        "moe_blocks": (0,),
        "block_sizes": [(2, 4, 3, 9), (2, 4, 3, 5), (2, 4, 3, 10)],
    },
    "nothing but widths": {
        "sharing": "none",
        "moe_blocks": "none",
        "steps": 3,
        "step_widths": (10, 3, 10),
    },
    "paths": {
        **CYCLE,
        "moe_blocks": "none",
        "paths": 2,
        "cheap_features": "maximum",
        "gated": True,
        "step_widths": (10, 4, 4, 10, 7),
        "pieces": [{"kind": "bottleneck", "rank": 2}],
    },
    "one attention of paths": {
        "sharing": "attention",
        "steps": 3,
        "moe_blocks": "none",
        "paths": 3,
    },
    "a bank": {
        **CYCLE,
        "moe_blocks": "none",
        "pieces": [{**LORA, "bank": 2, "shared": "none"}],
    },
    "a bank without biases": {
        **CYCLE,
        "moe_blocks": "none",
        "pieces": [{**LORA, "bank": 2, "shared": "down", "bias": False}],
    },
}


OFTEN = (
    "widenet",
    "norms",
    "attention",
    "each expert",
    "widths",
    "gated widths",
    "paths",
    "a bank without biases",
)


@pytest.mark.parametrize("name", [slow(n, when=n not in OFTEN) for n in SHARED])
def test_answers_are_the_same(name):
    model = tiny_model(**SHARED[name])
    apart = untie(model)
    assert apart.config.sharing == "none"
    pieces = [piece for piece in model.config.pieces if piece.kind != "lora"]
    assert [*apart.config.pieces] == pieces
    assert apart.config.step_widths is None
    assert apart.config.sizes == model.config.sizes_of_steps
    assert apart.config.routed_steps == model.config.routed_steps
    assert not apart.config.shared_norms
    assert len({id(block.attention) for block in apart.encoder.blocks}) == (
        model.config.steps
    )
    assert_same_logits(apart, model)


@pytest.mark.parametrize("name", ["vit", "mixtures"])
def test_relaxed_models_on_every_backend(name):
    model = source(name, steps=2)
    relaxed = relax(model, 3, say=quietly)
    apart = untie(relaxed)
    assert apart.config == model.config
    assert_same_logits(apart, relaxed)


def test_other_pieces_stay():
    pieces = [
        {"kind": "prompt", "count": 2, "segments": 3},
        {**LORA, "on": ["query", "value"]},
        {"kind": "bottleneck", "rank": 2, "bank": 2},
        {"kind": "key_value_prompt", "count": 2},
        {"kind": "relative_keys"},
        {"kind": "head_mix"},
    ]
    model = tiny_model(steps=3, pieces=pieces)
    apart = untie(model)
    kinds = [piece.kind for piece in apart.config.pieces]
    kept = [each["kind"] for each in pieces if each["kind"] != "lora"]
    assert kinds == kept
    assert_same_logits(apart, model)
    before, after = weights_by_path(model), weights_by_path(apart)
    for path in [path for path in after if "/pieces/" in path]:
        np.testing.assert_array_equal(numpy(after[path]), numpy(before[path]))


def test_what_is_frozen_stays_so():
    model = tiny_model(**CYCLE, moe_blocks="none", pieces=[LORA])
    query = "encoder/block_1/attention/query"
    model.frozen = ("embedding", query, "encoder/pieces", "head/norm")
    apart = untie(model)
    # Steps 1 and 3 read block 1; there are no pieces any more.
    wanted = {"embedding", "head/norm", query, query.replace("1", "3")}
    assert set(apart.frozen) == wanted
    model.frozen = ("core", "pieces")
    assert untie(model).frozen == ("core",)
    part = tiny_model(**SHARED["attention"])
    part.frozen = (query.replace("1", "0"),)
    assert untie(part).frozen == tuple(query.replace("1", step) for step in "012")


@pytest.mark.parametrize("pieces", [[], slow([LORA])])
def test_steps_of_several_widths_get_blocks_of_these(pieces):
    for fields in ({"gated": True}, {"moe_blocks": (1,)}):
        model = tiny_model("vit", step_widths=(6, 9), pieces=pieces, **fields)
        apart = untie(model)
        assert [size.hidden for size in apart.config.sizes] == [6, 9]
        assert apart.config.step_widths is None
        assert_same_logits(apart, model)


def test_class_dtype_and_origin_are_kept():
    model = tiny_model(dtype="mixed_bfloat16", steps=2)
    model.class_names = ("a", "b", "c", "d", "e")
    apart = untie(model)
    assert apart.class_names == model.class_names
    assert apart.dtype_policy.name == "mixed_bfloat16"
    assert not apart.compiled


def test_what_shares_nothing_is_one_line():
    for model in (tiny_model("vit"), tiny_model("vit", pieces=[LORA])):
        with pytest.raises(ValueError, match="share nothing") as error:
            untie(model)
        assert "merge()" in one_line(error)
    with pytest.raises(ValueError, match="a ndarray is not a model") as error:
        untie(tiny_images(1))
    one_line(error)
