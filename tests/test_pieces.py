"""What a step keeps for itself: by name, in its place, through everything."""

import dataclasses
from typing import ClassVar

import keras
import numpy as np
import pytest
from conftest import BACKEND, numpy, one_line, slow, tiny_images, tiny_model
from test_depth import NOISY, assert_equal, losses

import widenet_keras
from widenet_keras.layers.pieces import KINDS, Piece, Weight
from widenet_keras.models.description import describe
from widenet_keras.utils.roles import role_of


@dataclasses.dataclass(frozen=True)
class Idle(Piece):
    """Weights of every shape and order that nothing reads."""

    kind: ClassVar[str] = "idle"
    size: int = 3

    def weights(self, sizes):
        return {
            "wide": Weight((sizes.width, self.size), "glorot_uniform"),
            "bias": Weight((sizes.width,), "ones", decayed=False),
            "scale": Weight((), "ones", decayed=False),
        }


@dataclasses.dataclass(frozen=True)
class Busy(Piece):
    """Acts at every place, on each step in its own way."""

    kind: ClassVar[str] = "busy"

    def weights(self, sizes):
        return {
            "down": Weight((sizes.width, 2), "glorot_uniform"),
            "up": Weight((2, sizes.heads * sizes.key_dim), "glorot_uniform"),
            "gain": Weight((), "ones"),
            "shift": Weight((sizes.width,), "zeros", decayed=False),
        }

    def linear(self, w, name, inputs, output, draws):
        if name != "query":
            return output
        down, up = (keras.ops.cast(each, inputs.dtype) for each in (w.down, w.up))
        return output + keras.ops.matmul(keras.ops.matmul(inputs, down), up)

    def feed_forward(self, w, output, draws):
        return output * keras.ops.cast(w.gain, output.dtype)

    def after(self, w, tokens, draws):
        return tokens + keras.ops.cast(w.shift, tokens.dtype)


@pytest.fixture(autouse=True)
def _kinds(monkeypatch):
    for kind in (Idle, Busy):
        monkeypatch.setitem(KINDS, kind.kind, kind)


PLANS = {
    "shared": {"steps": 3},
    "cycle and a rest": {"steps": 5, "sharing": "cycle", "unique_blocks": 2},
    "dense": {"steps": 3, "moe_blocks": "none"},
}


def without_pieces(model, **fields):
    """Returns the same model without pieces."""
    config = model.config.replace(pieces=(), **fields)
    other = widenet_keras.ImageClassifier(config, seed=0, dtype=model.dtype_policy)
    source = {w.path.split("/", 1)[1]: w for w in model.weights}
    for weight in other.weights:
        weight.assign(numpy(source[weight.path.split("/", 1)[1]]))
    return other


@pytest.mark.parametrize(
    "dtype", ["float32", slow("mixed_bfloat16", when=BACKEND == "jax")]
)
@pytest.mark.parametrize(
    "plan", [slow(p, when=BACKEND == "jax" and p != "cycle and a rest") for p in PLANS]
)
def test_an_idle_piece_changes_no_number(plan, dtype):
    """An absent piece is absent, a present one in nobody's place: no dropout comes."""
    model = tiny_model(pieces=[{"kind": "idle"}], dtype=dtype, **PLANS[plan], **NOISY)
    plain, images = without_pieces(model), tiny_images(3)
    for training in (False, True):
        found, wanted = (
            numpy(each(images, training=training)) for each in (model, plain)
        )
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "plan", [slow(plan, when=BACKEND != "torch" and plan != "shared") for plan in PLANS]
)
def test_busy_pieces_in_loops_and_with_remat(plan):
    fields = {**PLANS[plan], "pieces": (Idle(), Busy())}
    expected = losses(fields, scan="never", remat="none", traced=False)
    assert_equal(losses(fields, scan="always", remat="full"), expected)


def test_every_step_has_its_own():
    """Only the piece of the last of four steps shifts, so the encoder's end does."""
    model = tiny_model(steps=4, pieces=(Busy(),), sharing="cycle", unique_blocks=2)
    pieces = {w.path.split("/")[-1]: w for w in model.encoder.stacked_pieces.weights}
    for name in ("busy_up", "busy_shift"):
        pieces[name].assign(np.zeros(pieces[name].shape))
    pieces["busy_gain"].assign(np.ones(4))
    plain, tokens = without_pieces(model), np.ones((2, 10, 12), "float32")
    wanted = numpy(plain.encoder(tokens)[0])
    np.testing.assert_allclose(numpy(model.encoder(tokens)[0]), wanted, atol=1e-6)
    shift = np.zeros((4, 12), "float32")
    shift[3] = np.arange(12)
    pieces["busy_shift"].assign(shift)
    found = numpy(model.encoder(tokens)[0])
    np.testing.assert_allclose(found, wanted + np.arange(12), atol=1e-5)


# Nothing reads the idle one, which torch and TensorFlow warn of.
@pytest.mark.filterwarnings("ignore:Gradients do not exist")
def test_pieces_are_trained_saved_and_described(tmp_path):
    model = tiny_model(pieces=[{"kind": "idle", "size": 2}, {"kind": "busy"}])
    roles = {w.path: role_of(w) for w in model.encoder.stacked_pieces.weights}
    assert {role.group for role in roles.values()} == {"pieces"}
    assert {role.stacked for role in roles.values()} == {"steps"}
    assert not [p for p, r in roles.items() if p.endswith("shift") and r.decayed]
    assert "pieces" in describe(model)
    model.compile("sgd")
    before = [numpy(w) for w in model.encoder.stacked_pieces.weights]
    model.fit(tiny_images(4), np.arange(4), verbose=0)
    after = [numpy(w) for w in model.encoder.stacked_pieces.weights]
    changed = [(a != b).any() for a, b in zip(before, after, strict=True)]
    assert changed == [False] * 3 + [True] * 4
    model.save(tmp_path / "model.keras")
    again = widenet_keras.load_model(tmp_path / "model.keras")
    assert again.config == model.config
    images = tiny_images(3)
    np.testing.assert_allclose(numpy(again(images)), numpy(model(images)), atol=1e-6)


@pytest.mark.parametrize("format", [slow("saved_model"), "litert", slow("onnx")])
def test_pieces_are_exported(format, tmp_path):
    model = tiny_model(pieces=(Idle(), Busy()), steps=3)
    names = {"saved_model": "exported", "litert": "m.tflite", "onnx": "m.onnx"}
    path = tmp_path / names[format]
    report = widenet_keras.export(model, path, format, say=lambda line: None)
    assert report.largest_difference < 1e-5


def test_the_seed_of_a_step_is_in_no_place_of_a_piece():
    """A piece more at inference must not look like a seed, which would draw."""
    model = tiny_model(pieces=(Idle(), Busy()), dropout=0.5)
    images = tiny_images(2)
    np.testing.assert_array_equal(numpy(model(images)), numpy(model(images)))


def test_what_cannot_be_is_one_line():
    for pieces, words in (
        ([{"kind": "idle"}, {"kind": "idle"}], "'idle' twice"),
        ([{"kind": "idle", "sise": 3}], "sise"),
    ):
        with pytest.raises(ValueError, match=words) as error:
            tiny_model(pieces=pieces)
        one_line(error)
    layers = widenet_keras.layers
    blocks = [
        layers.Block(layers.Attention(2), layers.FeedForward(hidden))
        for hidden in (5, 6)
    ]
    # What has no weights of that size does not mind.
    layers.Encoder(blocks, 2, sharing="none", pieces=(Idle(),)).build((None, 4, 8))
    lora = widenet_keras.LoRA(2)
    encoder = layers.Encoder(blocks, 2, sharing="none", pieces=(Idle(), lora))
    with pytest.raises(ValueError, match=r"'lora' .* hidden is 5 and 6") as error:
        encoder.build((None, 4, 8))
    one_line(error)


def test_steps_that_are_looked_at(kind):
    model = tiny_model(kind, steps=4)
    tokens = np.random.default_rng(0).normal(size=(2, 10, 12)).astype("float32")
    wanted, record = model.encoder(tokens)
    found, same, seen = model.encoder(tokens, look_at=(1, 3))
    np.testing.assert_allclose(numpy(found), numpy(wanted), atol=1e-6)
    for one, other in zip(same, record, strict=True):
        np.testing.assert_allclose(numpy(one), numpy(other), atol=1e-6)
    assert tuple(seen.tokens.shape) == (2, 2, 10, 12)
    assert {tuple(each.shape) for each in seen.heads} == {(2, 2, 10, 3, 4)}
    # What the last step ends with is what the encoder gives.
    np.testing.assert_allclose(numpy(seen.tokens[1]), numpy(wanted), atol=1e-6)
    specs = model.encoder.compute_output_spec(
        keras.KerasTensor((2, 10, 12)), look_at=(1, 3)
    )
    for one, spec in zip(
        keras.tree.flatten(seen), keras.tree.flatten(specs[2]), strict=True
    ):
        assert tuple(one.shape) == tuple(spec.shape)
    with pytest.raises(ValueError, match="step 4 and there are 4") as error:
        model.encoder(tokens, look_at=(4,))
    one_line(error)
    with pytest.raises(ValueError, match="look_at=0 must be a list") as error:
        model(tiny_images(), look_at=0)
    one_line(error)


def test_steps_that_are_looked_at_in_a_loop():
    fields = {"steps": 6, "scan": "always", "dropout": 0.0, "router_noise": 0.0}
    model = tiny_model(**fields)
    other = model.adapted(scan="never")
    tokens = np.random.default_rng(0).normal(size=(2, 10, 12)).astype("float32")
    results = [each.encoder(tokens, look_at=(4,)) for each in (model, other)]
    for one, wanted in zip(*map(keras.tree.flatten, results), strict=True):
        np.testing.assert_allclose(numpy(one), numpy(wanted), atol=1e-5)
