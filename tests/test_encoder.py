"""Sharing plans: tied equals untied copies, and gradients add up."""

import keras
import numpy as np
import pytest
from conftest import (
    BACKEND,
    numpy,
    one_line,
    slow,
    tiny_config,
    tiny_images,
    tiny_model,
)
from gradients import value_and_gradients
from oracle import holders, model_forward, weights_by_path

import widenet_keras
from widenet_keras import layers
from widenet_keras.layers.sharing import block_of_step

PLANS = {
    "all": {"sharing": "all"},
    "sequence": {"sharing": "sequence", "unique_blocks": 2},
    "cycle": {"sharing": "cycle", "unique_blocks": 2},
    "attention": {"sharing": "attention"},
    "feed_forward": {"sharing": "feed_forward", "unique_blocks": 2},
}
# What takes long to compile is told by some.
TOLD = {
    "jax": ["cycle"],
    "tensorflow": ["all", "sequence", "cycle"],
    "torch": list(PLANS),
}


def untied(model):
    """Returns an unshared model whose blocks are copies of the shared ones."""
    config = model.config.replace(sharing="none", unique_blocks=None)
    other = widenet_keras.ImageClassifier(config)
    source = weights_by_path(model)
    for weight in other.weights:
        path = weight.path.split("/", 1)[1]
        if "block_" in path:
            _, step, part, rest = path.split("/", 3)
            block = holders(source, model.config, part)[int(step.split("_")[1])]
            path = f"encoder/block_{block}/{part}/{rest}"
        weight.assign(source[path])
    return other


@pytest.mark.parametrize(
    ("sharing", "steps", "unique", "expected"),
    [
        ("none", 4, None, (0, 1, 2, 3)),
        ("all", 4, None, (0, 0, 0, 0)),
        ("sequence", 6, 3, (0, 0, 1, 1, 2, 2)),
        ("cycle", 6, 3, (0, 1, 2, 0, 1, 2)),
        ("cycle", 5, 2, (0, 1, 0, 1, 0)),
        ("attention", 4, 2, (0, 1, 2, 3)),
    ],
)
def test_plan(sharing, steps, unique, expected):
    assert block_of_step(sharing, steps, unique) == expected


@pytest.mark.parametrize(
    ("part", "sharing", "unique", "expected"),
    [
        ("attention", "attention", None, (0, 0, 0, 0)),
        ("attention", "attention", 2, (0, 0, 2, 2)),
        ("feed_forward", "feed_forward", 2, (0, 0, 2, 2)),
        ("feed_forward", "attention", 2, (0, 1, 2, 3)),
        ("attention", "none", None, (0, 1, 2, 3)),
        ("attention", "cycle", 2, (0, 1)),
        ("feed_forward", "all", None, (0,)),
    ],
)
def test_which_block_holds_a_part(part, sharing, unique, expected):
    config = tiny_config(steps=4, sharing=sharing, unique_blocks=unique)
    assert config.holders(part) == expected


@pytest.mark.parametrize("plan", [slow(p, when=p not in TOLD[BACKEND]) for p in PLANS])
def test_shared_equals_untied_copies_and_their_gradients_add_up(plan):
    model = tiny_model(steps=4, **PLANS[plan])
    copies = untied(model)
    images = tiny_images(3)
    weigh = keras.ops.convert_to_tensor(
        np.random.default_rng(0).normal(size=(3, 5)).astype("float32")
    )

    def gradients(model):
        value, found = value_and_gradients(
            lambda: keras.ops.sum(model(images, training=False) * weigh),
            model.trainable_variables,
            traced=False,
        )
        paths = [v.path.split("/", 1)[1] for v in model.trainable_variables]
        return value, dict(zip(paths, found, strict=True))

    value, shared = gradients(model)
    copied_value, apart = gradients(copies)
    assert value == pytest.approx(copied_value, abs=1e-5)
    for path, gradient in shared.items():
        if "block_" not in path:
            np.testing.assert_allclose(gradient, apart[path], atol=1e-5)
            continue
        block, part, rest = path.removeprefix("encoder/block_").split("/", 2)
        summed = sum(
            apart[f"encoder/block_{step}/{part}/{rest}"]
            for step, index in enumerate(holders(shared, model.config, part))
            if index == int(block)
        )
        np.testing.assert_allclose(gradient, summed, atol=2e-5, err_msg=path)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"shared_norms": True},
        {"moe_blocks": "none"},
        {"sharing": "cycle", "unique_blocks": 2, "moe_blocks": (1,)},
        {"sharing": "attention", "shared_norms": True, "moe_blocks": (1,)},
        {"sharing": "feed_forward", "shared_norms": True},
        {"router": "grouped_top_1"},
        {"output_activation": "gelu_tanh"},
        {"class_token": False, "representation": False},
        {"top_k": 4},
    ],
)
def test_inference_equals_the_oracle(fields):
    model = tiny_model(**fields)
    images = tiny_images(3)
    expected, _ = model_forward(weights_by_path(model), model.config, images)
    np.testing.assert_allclose(numpy(model(images)), expected, atol=1e-5)


def test_attention_dropout_path_equals_the_fused_one():
    model = tiny_model(attention_dropout=1e-7, dropout=0.0, router_noise=0.0)
    plain = tiny_model(dropout=0.0, router_noise=0.0)
    plain.set_weights(model.get_weights())
    images = tiny_images(3)
    np.testing.assert_allclose(
        numpy(model(images, training=True)),
        numpy(plain(images, training=True)),
        atol=1e-5,
    )


def test_stochastic_depth_drops_whole_images_and_keeps_the_mean():
    model = tiny_model("vit", steps=1, dropout=0.0, stochastic_depth=0.5)
    # The rate grows from 0 at the first step, so a single step never drops.
    images = tiny_images(8)
    np.testing.assert_allclose(
        numpy(model(images, training=True)), numpy(model(images)), atol=1e-6
    )
    draws = widenet_keras.routing.random_draws.RandomDraws.begin(
        keras.random.SeedGenerator(0)
    )
    kept = numpy(draws.drop_path(keras.ops.ones((400, 2, 3)), 0.25))
    assert set(np.unique(kept.reshape(400, 6).std(axis=1))) == {0.0}
    assert kept.mean() == pytest.approx(1.0, abs=0.1)
    assert np.unique(kept) == pytest.approx([0.0, 4 / 3])


def test_positions_resample_to_another_size():
    model = tiny_model()
    images = tiny_images(2, size=24)
    other = model.with_image_size(24)
    assert other.predict(images, verbose=0).shape == (2, 5)
    table, larger = numpy(model.embedding.position), numpy(other.embedding.position)
    assert larger.shape == (37, 12)
    np.testing.assert_array_equal(larger[0], table[0])
    # A linear ramp stays one away from the borders, at the finer spacing.
    ramp = np.arange(3.0)[None, :, None] + np.zeros((3, 1, 1))
    ramp = np.concatenate([[[9.0]], ramp.reshape(9, 1)]).astype("float32")
    fine = widenet_keras.layers.resample_positions(ramp, (3, 3), (6, 6))
    assert fine[0] == 9.0
    np.testing.assert_allclose(fine[1:].reshape(6, 6)[2, 2:4], [0.75, 1.25], atol=0.06)
    same = widenet_keras.layers.resample_positions(ramp, (3, 3), (3, 3))
    np.testing.assert_array_equal(same, ramp)


def test_shared_weights_are_stored_once(tmp_path):
    config = tiny_config(steps=12)
    model = widenet_keras.ImageClassifier(config)
    model.save(tmp_path / "model.keras")
    again = widenet_keras.load_model(tmp_path / "model.keras")
    assert len(again.encoder.blocks) == 1
    assert again.count_params() == model.count_params()
    deeper = widenet_keras.ImageClassifier(config.replace(steps=24))
    # Only the private norms grow with the depth: 4 rows of D per step.
    assert deeper.count_params() - model.count_params() == 12 * 4 * 12


@pytest.mark.parametrize(
    ("part", "other", "quantization"),
    [("attention", "feed_forward", None), ("feed_forward", "attention", "int8")],
)
def test_a_part_that_steps_share_is_one_layer(part, other, quantization, tmp_path):
    model = tiny_model(steps=3, sharing=part)
    if quantization:
        model.quantize(quantization)
    model.save(tmp_path / "model.keras")
    again = widenet_keras.load_model(tmp_path / "model.keras")
    blocks = again.encoder.blocks
    assert len({getattr(block, part) for block in blocks}) == 1
    assert len({getattr(block, other) for block in blocks}) == 3
    assert again.count_params() == model.count_params()
    images = tiny_images(2)
    np.testing.assert_array_equal(numpy(again(images)), numpy(model(images)))


@pytest.mark.parametrize("holder", [7, 1, -1, True])
def test_a_part_is_of_a_block_before(holder):
    config = tiny_model(steps=3, sharing="attention").encoder.get_config()
    config["blocks"][1]["config"]["attention"] = holder
    with pytest.raises(ValueError, match="block before it") as error:
        type(tiny_model().encoder).from_config(config)
    one_line(error)


def test_blocks_of_other_widths_are_not_looped_over():
    blocks = [layers.Block(layers.Attention(3), layers.FeedForward(n)) for n in (8, 16)]
    tokens = np.random.default_rng(0).normal(size=(2, 5, 12)).astype("float32")
    encoder = layers.Encoder(blocks, 2, "none", scan="always")
    found = numpy(keras.ops.convert_to_tensor(encoder(tokens)[0]))
    encoder.scan = "never"
    np.testing.assert_allclose(found, numpy(encoder(tokens)[0]), atol=1e-6)
