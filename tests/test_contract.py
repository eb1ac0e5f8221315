"""The one contract that every public layer and every preset passes."""

import inspect
import json

import keras
import numpy as np
import pytest
from conftest import BACKEND, RUN_EAGERLY, numpy, shake, tiny_config, tiny_images

import widenet_keras
from widenet_keras import layers
from widenet_keras.layers.pieces import KINDS as KINDS_OF_PIECES
from widenet_keras.layers.pieces.lora import MAPS, ROUTER


def values(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


# The shapes of the tiny presets, so that JAX compiles each operation once.
TOKENS = values(3, 10, 12)
SPREAD = {"activation": "silu", "output_activation": "gelu", "dropout": 0.1}


def routed(dtype, router=layers.TopKRouter):
    experts = layers.Experts(4, 14, **SPREAD, dtype=dtype)
    return layers.RoutedExperts(
        router(4, 2, noise=0.5, name="router"), experts, 1.5, 2, dtype=dtype
    )


def block(dtype, feed_forward=routed, name="block"):
    attention = layers.Attention(3, 0.1, dtype=dtype)
    return layers.Block(attention, feed_forward(dtype), 0.1, dtype=dtype, name=name)


def dense(dtype):
    return layers.FeedForward(10, **SPREAD, dtype=dtype)


def encoder(dtype, parts=(dense, routed), **fields):
    blocks = [block(dtype, part, f"block_{i}") for i, part in enumerate(parts)]
    return layers.Encoder(
        blocks, 4, stochastic_depth=0.1, seed=3, dtype=dtype, **fields
    )


def sharing_encoder(dtype):
    first, last = block(dtype, name="block_0"), block(dtype, dense, name="block_2")
    last.attention = layers.Attention(2, 0.1, key_dim=5, value_dim=3, dtype=dtype)
    parts = first.attention, last.feed_forward
    between = layers.Block(*parts, 0.1, dtype=dtype, name="block_1")
    blocks, widths = [first, between, last], (7, 10, 5)
    return layers.Encoder(
        blocks, 3, "none", shared_norms=True, step_widths=widths, dtype=dtype
    )


def mixture(dtype):
    losses = {"balance_loss_weight": 0.1, "router_z_loss_weight": 0.1}
    losses["add_losses"] = False
    return layers.MixtureOfExperts(
        4, 14, 1, 1.5, 2, router_noise=0.5, seed=3, **losses, **SPREAD, dtype=dtype
    )


NORMS = layers.StepNorms(*(values(12, seed=seed) for seed in range(4)))
PIECES = [
    {"kind": "lora", "rank": 2, "on": [*MAPS, ROUTER]},
    {"kind": "bottleneck", "rank": 3},
    {"kind": "prompt", "count": 2, "segments": 4},
    {"kind": "key_value_prompt", "count": 3},
    {"kind": "head_mix"},
    {"kind": "relative_keys"},
    {"kind": "residual_scale"},
    {"kind": "projection", "ratio": 0.5},
    {"kind": "token_conv", "size": 3},
]
# Name -> (factory of a dtype policy, first input, further arguments of the call).
LAYERS = {
    "Attention": (lambda d: layers.Attention(3, 0.1, dtype=d), TOKENS, {}),
    "Attention narrow": (
        lambda d: layers.Attention(2, 0.1, key_dim=5, value_dim=3, dtype=d),
        TOKENS,
        {},
    ),
    "AttentionPooling": (
        lambda d: layers.AttentionPooling(3, 10, "quick_gelu", 1e-3, dtype=d),
        TOKENS,
        {},
    ),
    "Block": (block, TOKENS, {"norms": NORMS}),
    "Block dense": (lambda d: block(d, dense), TOKENS, {"norms": NORMS}),
    "Encoder": (lambda d: encoder(d, sharing="cycle"), TOKENS, {}),
    "Encoder dense": (
        lambda d: encoder(
            d,
            (dense, dense),
            sharing="sequence",
            shared_norms=True,
            nested_widths=(0.5, 1.0),
            nested_probabilities=(0.4, 0.6),
        ),
        TOKENS,
        {},
    ),
    "Encoder of shared parts": (sharing_encoder, TOKENS, {}),
    "Encoder with pieces": (
        lambda d: encoder(d, sharing="cycle", pieces=PIECES),
        # One of them takes a grid alone, without a class token.
        TOKENS[:, 1:],
        {},
    ),
    "Encoder with groups": (
        lambda d: encoder(d, sharing="cycle", attention_groups=2),
        TOKENS,
        {},
    ),
    "Encoder with a ring": (
        lambda d: encoder(d, (dense,), ring_size=700, ring_seed=3),
        TOKENS,
        {},
    ),
    "Experts": (
        lambda d: layers.Experts(4, 14, **SPREAD, dtype=d),
        values(4, 10, 12),
        {},
    ),
    "FeedForward": (dense, TOKENS, {}),
    "FeedForward gated": (
        lambda d: layers.FeedForward(10, gated=True, **SPREAD, dtype=d),
        TOKENS,
        {},
    ),
    "MixtureOfExperts": (mixture, TOKENS, {}),
    "Ring": (
        lambda d: layers.Ring(100, {"b": (2, 12, 5), "a": (3, 4, 12)}, 7, dtype=d),
        TOKENS,
        {"which": "b", "step": 1},
    ),
    "RoutedExperts": (routed, TOKENS, {}),
    "RoutedExperts grouped": (
        lambda d: routed(d, layers.GroupedTop1Router),
        TOKENS,
        {},
    ),
    "PatchEmbedding": (
        lambda d: layers.PatchEmbedding(12, 4, class_token=False, dtype=d),
        values(3, 8, 12, 3),
        {},
    ),
    "PatchEmbedding with all": (
        lambda d: layers.PatchEmbedding(
            12, 4, registers=7, norm=True, norm_epsilon=1e-3, dtype=d
        ),
        values(3, 8, 12, 3),
        {},
    ),
    "ClassifierHead": (
        lambda d: layers.ClassifierHead(5, "token", representation=False, dtype=d),
        TOKENS,
        {},
    ),
    "ClassifierHead of two": (
        lambda d: layers.ClassifierHead(
            0, "token_and_patches", representation=False, leading_tokens=2, dtype=d
        ),
        TOKENS,
        {},
    ),
    "ClassifierHead of attention": (
        lambda d: layers.ClassifierHead(
            5,
            "attention",
            norm_after_pooling=True,
            attention=layers.AttentionPooling(3, 10, dtype=d, name="attention"),
            dtype=d,
        ),
        TOKENS,
        {},
    ),
    "TokenAttentionPooling": (
        lambda d: layers.TokenAttentionPooling(3, dtype=d),
        TOKENS,
        {},
    ),
    "ParallelPaths": (
        lambda d: layers.ParallelPaths(
            [layers.Attention(3, 0.1, dtype=d) for _ in range(3)], "maximum", dtype=d
        ),
        TOKENS,
        {},
    ),
    "ParallelPaths of MLPs": (
        lambda d: layers.ParallelPaths(
            [dense(d), dense(d)], norm_epsilon=1e-3, dtype=d
        ),
        TOKENS,
        {},
    ),
    "StackedNorms": (lambda d: layers.StackedNorms(3, dtype=d), TOKENS, {"row": 1}),
    "TopKRouter": (lambda d: layers.TopKRouter(4, 3, 0.5, dtype=d), TOKENS, {}),
    "GroupedTop1Router": (
        lambda d: layers.GroupedTop1Router(4, 2, 0.5, dtype=d),
        TOKENS,
        {},
    ),
}
POLICIES = ["float32", "mixed_bfloat16"]
every_layer = pytest.mark.parametrize("name", LAYERS)
every_policy = pytest.mark.parametrize("policy", POLICIES)


def has_output_shape(name):
    made_for = getattr(layers, name.split()[0]).compute_output_shape
    return made_for is not keras.layers.Layer.compute_output_shape


def flat(outputs):
    return [part for part in keras.tree.flatten(outputs) if part is not None]


def built(name, policy="float32"):
    """Returns a layer without constant weights, its input and its arguments."""
    make, inputs, arguments = LAYERS[name]
    layer = make(policy)
    layer(inputs, **arguments)
    shake(layer.trainable_weights)
    return layer, inputs, arguments


def test_every_public_layer_is_in_the_table():
    public = {
        name
        for name, item in vars(layers).items()
        if isinstance(item, type) and issubclass(item, keras.layers.Layer)
    }
    assert public == {name.split()[0] for name in LAYERS}


def test_every_kind_of_piece_is_in_the_table():
    assert [piece["kind"] for piece in PIECES] == list(KINDS_OF_PIECES)


@every_policy
@every_layer
def test_outputs_are_finite_and_as_specified(name, policy):
    layer, inputs, arguments = built(name, policy)
    outputs = flat(layer(inputs, **arguments))
    symbolic = keras.KerasTensor(inputs.shape, dtype=layer.compute_dtype)
    specs = flat(layer.compute_output_spec(symbolic, **arguments))
    for output, spec in zip(outputs, specs, strict=True):
        assert tuple(output.shape) == tuple(spec.shape)
        assert keras.backend.standardize_dtype(output.dtype) == spec.dtype
        assert np.isfinite(numpy(output).astype("float32")).all()


@every_layer
def test_symbolic_call_with_any_batch(name):
    make, inputs, arguments = LAYERS[name]
    outputs = flat(make("float32")(inputs, **arguments))
    symbolic = keras.KerasTensor((None, *inputs.shape[1:]))
    specs = flat(make("float32")(symbolic, **arguments))
    for output, spec in zip(outputs, specs, strict=True):
        assert len(output.shape) == len(spec.shape)
        for size, wanted in zip(output.shape, spec.shape, strict=True):
            assert wanted in (size, None)


@pytest.mark.parametrize("name", [*filter(has_output_shape, LAYERS)])
def test_output_shape(name):
    layer, inputs, arguments = built(name)
    shape = layer.compute_output_shape(inputs.shape)
    assert tuple(shape) == tuple(layer(inputs, **arguments).shape)
    unknown = layer.compute_output_shape((None, *inputs.shape[1:]))
    assert tuple(unknown)[1:] == tuple(shape)[1:]


@every_layer
def test_config_has_every_argument(name):
    layer, _, _ = built(name)
    arguments = set(inspect.signature(type(layer).__init__).parameters)
    assert arguments - {"self", "kwargs"} <= set(layer.get_config())


@every_policy
@every_layer
def test_config_round_trip(name, policy):
    layer, inputs, arguments = built(name, policy)
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(layer)))
    again = keras.saving.deserialize_keras_object(config)
    again(inputs, **arguments)
    assert type(again) is type(layer)
    assert json.loads(json.dumps(again.get_config())) == config["config"]
    assert len(again.weights) == len(layer.weights)
    again.set_weights(layer.get_weights())
    outputs = [flat(each(inputs, **arguments)) for each in (layer, again)]
    for one, other in zip(*outputs, strict=True):
        np.testing.assert_array_equal(numpy(one), numpy(other))


@every_layer
def test_mixed_precision_dtypes(name):
    layer, inputs, arguments = built(name, "mixed_bfloat16")
    outputs = flat(layer(inputs, **arguments))
    routers = [
        part
        for part in layer._flatten_layers()
        if isinstance(part, layers.TopKRouter | layers.GroupedTop1Router)
    ]
    assert {weight.dtype for weight in layer.trainable_weights} == {"float32"}
    assert all(router.compute_dtype == "float32" for router in routers)
    in_float32 = layer in routers or isinstance(layer, layers.ClassifierHead)
    wanted = "float32" if in_float32 else "bfloat16"
    assert keras.backend.standardize_dtype(outputs[0].dtype) == wanted


@pytest.mark.parametrize(
    ("name", "arguments"), [("Attention", (3,)), ("MixtureOfExperts", (4, 14))]
)
def test_layer_in_a_functional_model(name, arguments, tmp_path):
    layer = getattr(layers, name)(*arguments)
    entry = keras.Input((10, 12))
    pooled = keras.layers.GlobalAveragePooling1D()(layer(entry))
    model = keras.Model(entry, keras.layers.Dense(1)(pooled))
    before = layer.get_weights()
    model.compile("sgd", "mse", run_eagerly=RUN_EAGERLY)
    history = model.fit(TOKENS, np.ones((3, 1)), verbose=0).history
    assert np.isfinite(history["loss"]).all()
    changed = [(a != b).any() for a, b in zip(before, layer.get_weights(), strict=True)]
    assert any(changed)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    wanted = numpy(model(TOKENS))
    np.testing.assert_allclose(numpy(again(TOKENS)), wanted, atol=1e-6)


def shrunk(preset):
    """Returns the tiny config of a preset: its kind is kept, its sizes are not."""
    large = widenet_keras.preset_config(preset)
    blocks = large.moe_blocks
    sizes = {"image_size": 12, "patch_size": 4, "channels": 3, "width": 12}
    sizes |= {"heads": 3, "mlp_dim": 10, "expert_dim": 14, "num_classes": 5}
    sizes["num_experts"] = 4
    sizes["steps"] = max(2, -min(blocks)) if isinstance(blocks, tuple) else 2
    if large.unique_blocks:
        steps = 3 if large.sharing == "cycle" else 4
        sizes |= {"steps": steps, "unique_blocks": 2}
    if large.attention_groups != 1:
        sizes |= {"attention_groups": (9, 3, 1, 1)}
    if large.ring_size:
        sizes["ring_size"] = 816
    return widenet_keras.preset_config(preset, **sizes)


# What plain ViTs of other libraries have, at once, in blocks that steps share.
MANY = {
    "sharing": "all",
    "norm_epsilon": 1e-3,
    "activation": "silu",
    "gated": True,
    "embedding_norm": True,
    "registers": 2,
    "pooling": "attention",
    "norm_after_pooling": True,
    "representation": False,
}
# Presets that differ in their sizes only are one model here; the first stands for all.
KINDS = {shrunk(preset): preset for preset in reversed(widenet_keras.presets())}
NESTED = {"block_sizes": [(2, 5, 3, 8)], "nested_widths": (0.5, 1.0)}
KINDS[tiny_config("vit", **MANY, **NESTED)] = "many fields"
KINDS[tiny_config("vit_moe", pieces=PIECES, class_token=False)] = "pieces"
# All kinds at once, or orders that are drawn, compile for long on JAX.
TAKES_LONG = {"pieces", "sret_small_32"} if BACKEND == "jax" else set()
# Another mini model of other rates, and of an activation that others have too.
TAKES_LONG |= {"mini_deit_ti16"} if BACKEND != "torch" else set()
every_preset = pytest.mark.parametrize(
    "config",
    [
        pytest.param(c, id=name, marks=[pytest.mark.slow] if name in TAKES_LONG else [])
        for c, name in KINDS.items()
    ],
)


def model_of(config, dtype=None):
    """Returns a model without constant weights."""
    model = widenet_keras.ImageClassifier(config, seed=0, dtype=dtype)
    shake(model.trainable_weights)
    return model


@every_preset
def test_preset_fits_saves_and_loads(config, tmp_path):
    model = model_of(config)
    images = tiny_images(3)
    start = numpy(model(images))
    assert start.shape == (3, 5)
    model.compile(run_eagerly=RUN_EAGERLY)
    history = model.fit(images, np.array([0, 4, 2]), verbose=0).history
    assert np.isfinite(history["loss"]).all()
    wanted = numpy(model(images))
    assert np.isfinite(wanted).all()
    assert (wanted != start).any()
    model.save(tmp_path / "model.keras")
    again = widenet_keras.load_model(tmp_path / "model.keras")
    assert type(again) is widenet_keras.ImageClassifier
    assert again.get_config() == model.get_config()
    assert again.config == model.config
    np.testing.assert_allclose(numpy(again(images)), wanted, atol=1e-6)


@every_preset
def test_preset_in_mixed_bfloat16(config):
    model = model_of(config, dtype="mixed_bfloat16")
    logits = model(tiny_images(3))
    assert model.head.compute_dtype == "bfloat16"
    assert keras.backend.standardize_dtype(logits.dtype) == "float32"
    assert np.isfinite(numpy(logits)).all()
    # What `fit` and `predict` call on JAX does not pass where Keras casts inputs.
    exact = model_of(config)
    exact.set_weights(model.get_weights())
    model.run_eagerly = RUN_EAGERLY
    predicted = model.predict(tiny_images(3), verbose=0)
    difference = np.abs(predicted - numpy(exact(tiny_images(3)))).max()
    assert 1e-4 < difference < 0.5
