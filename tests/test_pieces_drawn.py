"""What pieces draw, and where they start: banks, dropped prompts, no change at all."""

import itertools

import keras
import numpy as np
import oracle_pieces as oracle
import pytest
from conftest import BACKEND, numpy, slow, slow_on, tiny_config, tiny_images, tiny_model
from oracle import weights_by_path
from test_depth import NOISY, assert_equal, losses
from test_kinds_of_pieces import EVERYWHERE
from test_pieces import without_pieces

import widenet_keras
from widenet_keras import (
    Bottleneck,
    KeyValuePrompt,
    LoRA,
    Projection,
    Prompt,
    ResidualScale,
)
from widenet_keras.layers.pieces.piece import Sizes
from widenet_keras.layers.pieces.stacked_pieces import StackedPieces
from widenet_keras.routing.random_draws import SILENT, RandomDraws
from widenet_keras.utils import numerics

UNDRAWN = {
    "dropout": 0.0,
    "attention_dropout": 0.0,
    "stochastic_depth": 0.0,
    "router_noise": 0.0,
}
# Everything at once that draws.
DRAWING = (
    LoRA(2, on=("query", "key", "value", "output"), bank=3, shared="none"),
    Bottleneck(3, bank=2, shared="down", init="published"),
    Prompt(2, dropout=0.4, segments=3),
    KeyValuePrompt(2),
)


@slow_on("jax")
@pytest.mark.parametrize("kind", ["vit_moe", slow("widenet"), slow("vit")])
def test_pieces_that_start_as_no_change_change_no_bit(kind):
    pieces = [LoRA(3, on=EVERYWHERE), Bottleneck(5)]
    pieces += [ResidualScale(), Projection(init="identity")]
    config = tiny_config(kind, pieces=pieces)
    model, images = widenet_keras.ImageClassifier(config), tiny_images(3)
    plain = without_pieces(model)
    # A compiler of many operations adds up in another order where there is more to add.
    atol = 2e-6 if BACKEND == "jax" else 0
    found, wanted = (numpy(each(images)) for each in (model, plain))
    np.testing.assert_allclose(found, wanted, rtol=0, atol=atol)
    atol = 0 if BACKEND == "torch" else 2e-6
    found, wanted = (each.predict(images, verbose=0) for each in (model, plain))
    np.testing.assert_allclose(found, wanted, rtol=0, atol=atol)


def test_nothing_in_front_of_the_keys_is_nothing():
    """A pair of no mass, far from every query, adds zeros to every sum."""
    model = tiny_model("vit", steps=1, pieces=[KeyValuePrompt(1, shared=False)])
    plain, images = without_pieces(model), tiny_images(3)
    w = {weight.path.split("/")[-1]: weight for weight in model.weights}
    # All queries of a head are one vector, and the key lies opposite to it.
    for each in (model, plain):
        query = each.encoder.blocks[0].attention.query_projection
        query.kernel.assign(np.zeros((12, 12)))
        query.bias.assign(np.ones(12))
    w["key_value_prompt_key"].assign(np.full((1, 1, 12), -1e4))
    np.testing.assert_allclose(numpy(model(images)), numpy(plain(images)), atol=1e-6)


def test_attention_with_pairs_is_a_gate_between_two():
    """lam * attention over the pairs alone + (1 - lam) * attention over the tokens."""
    random = np.random.default_rng(0)
    query, key, value = random.normal(size=(3, 2, 5, 3, 4)).astype("float32")
    more = random.normal(size=(2, 2, 3, 3, 4)).astype("float32")

    def attended(key, value):
        heads = (query, key, value)
        if BACKEND == "torch":
            heads = (each.swapaxes(1, 2) for each in heads)
        found = numerics.attended(*map(keras.ops.convert_to_tensor, heads))
        return numpy(found).reshape(2, 5, 3, 4)

    pairs = zip(more, (key, value), strict=True)
    found = attended(*(np.concatenate(pair, 1) for pair in pairs))
    masses = [
        np.exp(np.einsum("bthd,bshd->bths", query, keys) / 2).sum(-1, keepdims=True)
        for keys in (more[0], key)
    ]
    lam = masses[0] / sum(masses)
    wanted = lam * attended(*more) + (1 - lam) * attended(key, value)
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def outputs_of_choices(model, images, banks):
    """Returns the logits for every choice of one of the copies of banks, a dict."""
    w, config = weights_by_path(model), model.config
    found = {}
    for places in itertools.product(*map(range, banks.values())):
        chosen = dict(zip(banks, places, strict=True))

        def choose(name, copies, chosen=chosen):
            [key] = [key for key in chosen if key in name]
            return copies[chosen[key]]

        found[places], _ = oracle.model_forward(w, config, images, choose=choose)
    return found


@pytest.mark.parametrize(
    ("pieces", "banks", "mean_is_merged"),
    [
        # The copies of the last map are averaged by what is linear, and only they.
        ([Bottleneck(5, bank=3, shared="down")], {"bottleneck_up": 3}, True),
        ([Bottleneck(5, bank=3, shared="up")], {"bottleneck_down": 3}, False),
        # What prompts meet is the copy that the tokens meet.
        (
            [LoRA(2, on=("key",), bank=3, shared="up"), Prompt(2, dropout=0.0)],
            {"lora_key_down": 3},
            None,
        ),
    ],
    ids=["up", "down", "prompts"],
)
def test_training_takes_one_copy_and_inference_the_mean(pieces, banks, mean_is_merged):
    model = tiny_model("vit", steps=1, pieces=pieces, **UNDRAWN)
    if mean_is_merged is not None:
        *copies, merged = outputs_of_adapter(model, banks)
        mean = np.mean(copies, axis=0)
        assert np.allclose(mean, merged, atol=1e-6) == mean_is_merged
    images = tiny_images(2)
    choices = outputs_of_choices(model, images, banks)
    met = set()
    for _ in range(12):
        found = numpy(model(images, training=True))
        [place] = [p for p, o in choices.items() if np.allclose(found, o, atol=2e-5)]
        met.add(place)
    assert len(met) > 1


def outputs_of_adapter(model, banks):
    """Returns what the adapter gives for each copy, and at inference as the last."""
    [piece], [w] = model.encoder.pieces, model.encoder.stacked_pieces.read(lambda v: v)
    own = {name: numpy(getattr(w, name))[0] for name in w._fields}
    [count], tokens = banks.values(), np.random.default_rng(0).normal(size=(1, 4, 12))
    side = next(iter(banks)).split("_")[1]

    def of(select):
        mine = {
            name: select(value) if name.startswith(side) else value
            for name, value in own.items()
        }
        weights = type(w)(*(keras.ops.convert_to_tensor(mine[n]) for n in w._fields))
        inputs = keras.ops.convert_to_tensor(tokens, "float32")
        return numpy(piece.feed_forward(weights, inputs, SILENT))

    found = [of(lambda value, copy=copy: value[copy]) for copy in range(count)]
    return [*found, of(lambda value: value.mean(axis=0))]


def drawn(piece, times, seed=0):
    """Returns which copies of down and up are drawn, (times, 2)."""
    layer = StackedPieces((piece,), (False,))
    layer.build(Sizes(4, 1, 4, 4, hidden=6))
    start = "query_" if piece.kind == "lora" else ""
    for weight in layer.weights:
        shape = (1, -1, *[1] * (len(weight.shape) - 2))
        places = np.arange(weight.shape[1], dtype="float32").reshape(shape)
        weight.assign(np.broadcast_to(places, weight.shape))
    [of_steps] = layer.read(lambda variable: keras.ops.convert_to_tensor(variable))
    own = type(of_steps)(*(weight[0] for weight in of_steps))
    generator = keras.random.SeedGenerator(seed)
    found = []
    for _ in range(times):
        one = piece.drawn(own, RandomDraws.begin(generator))
        sides = [numpy(getattr(one, f"{start}{side}")) for side in ("down", "up")]
        # The copy is one for all of its numbers, the bias too.
        assert all(np.ptp(side) == 0 for side in sides)
        bias = numpy(getattr(one, f"{start}{'bias' if start else 'up_bias'}"))
        assert (bias == sides[1].flat[0]).all()
        found.append([int(side.flat[0]) for side in sides])
    return np.array(found)


@pytest.mark.parametrize(
    "piece",
    [
        LoRA(2, on=("query",), bank=4, shared="none"),
        slow(Bottleneck(2, bank=3, shared="none")),
    ],
)
def test_copies_are_drawn_evenly_and_apart(piece):
    count, times = piece.bank, 400 if BACKEND == "torch" else 100
    found = drawn(piece, times)
    pairs = found[:, 0] * count + found[:, 1]
    draws = (found[:, 0], count), (found[:, 1], count), (pairs, count**2)
    for values, places in draws:
        counts = np.bincount(values, minlength=places)
        assert len(counts) == places
        sigma = (times / places * (1 - 1 / places)) ** 0.5
        assert np.abs(counts - times / places).max() < 3.5 * sigma
    np.testing.assert_array_equal(drawn(piece, 20), found[:20])


def test_every_product_and_step_draws_apart():
    pieces = [LoRA(2, on=("query", "key"), bank=2, shared="up")]
    model = tiny_model("vit", steps=2, pieces=pieces, **UNDRAWN)
    images = tiny_images(1)
    w, config = weights_by_path(model), model.config
    outputs = {}
    for places in itertools.product(range(2), repeat=4):
        turns = iter(places)

        def choose(name, copies, turns=turns):
            return copies[next(turns)]

        outputs[places], _ = oracle.model_forward(w, config, images, choose=choose)
    met = []
    for _ in range(16):
        found = numpy(model(images, training=True))
        met += [p for p, o in outputs.items() if np.allclose(found, o, atol=2e-6)]
    met = np.array(met)
    assert len(met) > 8
    for one, other in itertools.combinations(met.T, 2):
        assert 0 < (one == other).sum() < len(met)


# Loops and programs of gradients compile for long.
DEPTHS = {
    "shared": {"steps": 3},
    "cycle and a rest": {"steps": 5, "sharing": "cycle", "unique_blocks": 2},
    "one of two routed": {
        "steps": 4,
        "sharing": "cycle",
        "unique_blocks": 2,
        "moe_blocks": (1,),
    },
}


@pytest.mark.parametrize(
    "plan",
    [slow(p, when=BACKEND != "torch") for p in DEPTHS],
)
def test_loop_and_remat_draw_the_same(plan):
    fields = {"moe_blocks": "none", "pieces": DRAWING, **DEPTHS[plan]}
    expected = losses(fields, scan="never", remat="none", traced=False)
    assert_equal(losses(fields, scan="always", remat="full"), expected)


def test_prompts_drop_entries_of_every_image():
    piece, width = Prompt(3, dropout=0.5), 8
    row = keras.ops.ones((3, width))
    w = StackedPieces((piece,), (False,))
    w.build(Sizes(width, 2, 4, 4))
    [kind] = w.read(lambda variable: keras.ops.convert_to_tensor(variable))
    own, tokens = type(kind)(row), keras.ops.ones((4, 5, width))
    draws = RandomDraws.begin(keras.random.SeedGenerator(0))
    found = numpy(piece.prompts(own, tokens, draws))
    assert found.shape == (4, 3, width)
    assert set(np.unique(found)) == {0.0, 2.0}
    assert 30 < (found == 0).sum() < 66
    assert len({image.tobytes() for image in found}) == 4
    silent = numpy(piece.prompts(own, tokens, SILENT))
    np.testing.assert_array_equal(silent, np.ones((1, 3, width)))


@slow_on("jax")
def test_a_prediction_is_silent_and_of_one_image():
    model = tiny_model("vit_moe", pieces=(*DRAWING,), **NOISY)
    images = tiny_images(3)
    together = numpy(model(images))
    np.testing.assert_array_equal(numpy(model(images)), together)
    alone = np.concatenate([numpy(model(images[i : i + 1])) for i in range(3)])
    np.testing.assert_allclose(alone, together, atol=2e-6)
    drawn = [numpy(model(images, training=True)) for _ in range(2)]
    assert np.abs(drawn[0] - drawn[1]).max() > 1e-3


def test_routers_never_meet_prompts():
    """Where attention gives nothing, prompts change nothing of the routing."""
    pieces = [Prompt(3, dropout=0.5), KeyValuePrompt(2)]
    model = tiny_model(pieces=pieces, capacity_factor=0.7, **UNDRAWN)
    output = model.encoder.blocks[0].attention.output_projection
    output.kernel.assign(np.zeros((12, 12)))
    plain, images = without_pieces(model), tiny_images(3)
    for training in (False, True):
        (found, record), (wanted, same) = (
            each(images, training=training, return_routing=True)
            for each in (model, plain)
        )
        np.testing.assert_array_equal(numpy(found), numpy(wanted))
        for one, other in zip(record, same, strict=True):
            np.testing.assert_array_equal(numpy(one), numpy(other))
    assert record.experts.shape[-1] == model.config.tokens


@slow_on("jax")
@pytest.mark.parametrize("kind", ["vit_moe", slow("widenet")])
def test_half_precision_is_close_and_what_is_exact_stays(kind):
    pieces = [*DRAWING[2:], LoRA(2, on=EVERYWHERE), Bottleneck(3)]
    exact = tiny_model(kind, pieces=pieces)
    half = tiny_model(kind, pieces=pieces, dtype="mixed_bfloat16")
    half.set_weights(exact.get_weights())
    images = tiny_images(3)
    difference = np.abs(numpy(half(images)) - numpy(exact(images))).max()
    assert 1e-4 < difference < 0.5
    pure = tiny_model(kind, pieces=pieces, dtype="bfloat16")
    kept = {
        w.path.split("/")[-1]
        for w in pure.encoder.stacked_pieces.weights
        if w.dtype == "float32"
    }
    assert kept == {"lora_router_down", "lora_router_up", "prompt_mask"}
    assert np.isfinite(numpy(pure(images)).astype("float32")).all()
