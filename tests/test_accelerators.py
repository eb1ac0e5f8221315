"""What accelerators ask for, as far as it can be seen without one."""

import functools
import sys
import types
from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import BACKEND, numpy, slow, tiny_images, tiny_model
from gradients import value_and_gradients
from oracle import MoeOracle
from test_contract import MANY

import widenet_keras
from widenet_keras.layers import MixtureOfExperts
from widenet_keras.routing.engines import slots_or_all
from widenet_keras.routing.random_draws import RandomDraws
from widenet_keras.utils import numerics

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

NAMES = ("router", "w1", "b1", "w2", "b2")


# --- JAX: attention


@pytest.mark.parametrize(
    ("platform", "capability", "dtype", "length", "head_dim", "expected"),
    [
        ("gpu", (9, 0), "bfloat16", 197, 64, "cudnn"),
        ("gpu", (8, 0), "float16", 196, 128, "cudnn"),
        ("gpu", (9, 0), "bfloat16", 2, 256, "cudnn"),
        ("gpu", (8, 9), "bfloat16", 197, 256, "xla"),
        ("gpu", (9, 0), "bfloat16", 197, 68, "xla"),
        ("gpu", (9, 0), "bfloat16", 1, 64, "xla"),
        ("gpu", (9, 0), "float32", 197, 64, "xla"),
        ("gpu", (7, 5), "float16", 197, 64, "xla"),
        ("gpu", None, "bfloat16", 197, 64, "xla"),
        ("tpu", None, "bfloat16", 197, 64, "xla"),
        ("cpu", None, "float32", 197, 64, "xla"),
    ],
)
def test_the_kernel_of_attention(
    platform, capability, dtype, length, head_dim, expected
):
    from widenet_keras.utils.attention_jax import Place, kernel_for

    place = Place(platform, capability)
    assert kernel_for(place, dtype, length, head_dim) == expected


def test_the_place_of_a_device(monkeypatch):
    import jax

    from widenet_keras.utils.attention_jax import Place, place

    class Device:
        platform, compute_capability = "gpu", "9.0"

    monkeypatch.setattr(jax, "local_devices", lambda: [Device])
    assert place() == Place("gpu", (9, 0))
    Device.compute_capability = "gfx942"
    assert place() == Place("gpu", None)
    Device.platform = "tpu"
    assert place() == Place("tpu", None)


@pytest.mark.parametrize("length", [1, 2, 7, 10])
def test_attention_padded_to_an_even_length(length):
    """As it goes to cuDNN: values and gradients, alone and inside a loop."""
    import jax
    import jax.numpy as jnp

    from widenet_keras.utils.attention_jax import attended, of_even_length

    random = np.random.default_rng(0)
    heads = [
        jnp.array(random.normal(size=(3, length, 2, 8)), "float32") for _ in range(3)
    ]
    seen = jnp.array(random.normal(size=heads[0].shape), "float32")

    def padded(*heads):
        return of_even_length(*heads, "xla")

    def looped(function, *heads):
        def body(query, _):
            return function(query, *heads[1:]), None

        return jax.lax.scan(body, heads[0], None, length=3)[0]

    def once(function, *heads):
        return function(*heads)

    for run in (once, looped):

        def results(function, run=run):
            def loss(*heads):
                return jnp.sum(run(function, *heads) * seen)

            return jax.jit(jax.value_and_grad(loss, (0, 1, 2)))(*heads)

        found, expected = map(jax.tree.leaves, map(results, (padded, attended)))
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, other, atol=2e-5)


# --- Half precision, with the engine and the kernels of this device


def as_half(array):
    """Returns an array with the values that bfloat16 has."""
    half = keras.ops.cast(np.asarray(array, "float32"), "bfloat16")
    return numpy(keras.ops.cast(half, "float32")).astype("float64")


@pytest.mark.parametrize("factor", [1.2, 0.5, None])
def test_half_precision_equals_the_loop(factor):
    """Output and all gradients; the router decides as the loop does, in float32."""
    experts, top_k = 4, 2
    layer = MixtureOfExperts(
        experts,
        32,
        top_k,
        factor,
        router_noise=0.0,
        add_losses=False,
        dtype="mixed_bfloat16",
    )
    layer.build((None, 25, 16))
    random = np.random.default_rng(7)
    for weight in layer.weights:
        weight.assign(as_half(random.normal(size=weight.shape) * 0.3))
    weights = (numpy(weight).astype("float64") for weight in layer.weights)
    x, dy = (as_half(random.normal(size=(3, 25, 16))) for _ in range(2))
    oracle = MoeOracle(dict(zip(NAMES, weights, strict=True)), top_k, factor)
    expected = oracle.forward(x)
    inputs = keras.Variable(x, dtype="float32")

    def loss():
        y, record = layer.routed_experts(inputs, training=True)
        y = keras.ops.cast(y, "float32")
        return keras.ops.sum(y * keras.ops.convert_to_tensor(dy, "float32")), (
            y,
            record,
        )

    _, gradients, (y, record) = value_and_gradients(loss, [*layer.weights, inputs])
    wanted = np.swapaxes(numpy(record.experts), 1, 2)
    np.testing.assert_array_equal(wanted, oracle.choices["wanted"])
    pairs = [(numpy(y), expected)]
    upstream = oracle.backward(dy)
    pairs += [
        (gradient, upstream[name])
        for name, gradient in zip((*NAMES, "x"), gradients, strict=True)
    ]
    for one, other in pairs:
        # Seven bits, of what is summed.
        assert np.abs(one - other).max() < 2**-6 * np.abs(other).max()


@pytest.mark.parametrize("length", [2, 7, 26])
def test_half_precision_of_attention(length):
    random = np.random.default_rng(0)
    heads = [as_half(random.normal(size=(3, length, 2, 8))) for _ in range(3)]
    dy = as_half(random.normal(size=(3, length, 16)))

    def results(dtype):
        each = [keras.Variable(part, dtype="float32") for part in heads]

        def loss():
            parts = (
                numerics.cast(part, dtype)
                for part in map(keras.ops.convert_to_tensor, each)
            )
            if BACKEND == "torch":
                parts = (part.transpose(1, 2) for part in parts)
            y = keras.ops.cast(numerics.attended(*parts), "float32")
            return keras.ops.sum(y * keras.ops.convert_to_tensor(dy, "float32")), y

        _, gradients, y = value_and_gradients(loss, each)
        return [numpy(y), *gradients]

    for one, other in zip(results("bfloat16"), results("float32"), strict=True):
        assert np.abs(one - other).max() < 2**-5 * np.abs(other).max()


@pytest.mark.parametrize("kind", ["widenet", slow("vit")])
def test_training_in_half_precision_as_the_device_does_it(kind):
    """Compiled where "auto" compiles: the loss falls, and falls as in float32."""
    how = {"float32": {}, "mixed_bfloat16": {}}
    if BACKEND == "torch":
        import torch

        how["mixed_bfloat16"] = {"jit_compile": torch.cuda.is_available()}
    losses = {}
    for dtype in how:
        keras.utils.set_random_seed(0)
        fields = {"dropout": 0.1, "width": 16, "heads": 2, "expert_dim": 32}
        model = tiny_model(kind, dtype=dtype, **fields)
        model.compile(keras.optimizers.SGD(0.1), **how[dtype])
        images, labels = tiny_images(8), np.arange(8) % 5
        for _ in range(3):
            loss = float(model.train_on_batch(images, labels)[0])
            losses.setdefault(dtype, []).append(loss)
    exact, half = losses.values()
    assert half[-1] < half[0]
    np.testing.assert_allclose(half, exact, rtol=0.1)
    # Of a gradient of half or double the size it would be about that.
    np.testing.assert_allclose(half[0] - half[-1], exact[0] - exact[-1], rtol=0.35)


# --- JAX: the loop over the depth


@pytest.mark.parametrize(
    ("platform", "steps", "remat", "expected"),
    [
        ("gpu", 12, False, True),
        ("gpu", 13, False, False),
        ("gpu", 12, True, False),
        ("tpu", 12, False, False),
        ("cpu", 2, False, False),
    ],
)
def test_steps_that_are_taken_one_by_one(platform, steps, remat, expected):
    from widenet_keras.layers.depth_jax import unrolls

    assert unrolls(steps, remat, platform) is expected


def test_what_a_step_of_a_loop_keeps(monkeypatch):
    """Bytes for each token of WideNet-B: 3.95 GB at batch 128 where nothing is done."""
    import gpu_program

    monkeypatch.setattr(numerics, "attended", gpu_program.attended)
    model = gpu_program.classifier(
        "widenet_b16", steps=3, scan="always", engine="slots", dropout=0.0
    )
    assert gpu_program.kept_per_step(model, 1) / 197 <= 1.1e9 / (128 * 197)


def test_bytes_that_a_program_moves():
    """A loop of three turns over slices, by hand."""
    from gpu_program import Program

    text = """HloModule m
%body (p: (s32[], f32[3,8])) -> (s32[], f32[3,8]) {
  %p = (s32[], f32[3,8]{1,0}) parameter(0)
  %i = s32[] get-tuple-element((s32[], f32[3,8]{1,0}) %p), index=0
  %x = f32[3,8]{1,0} get-tuple-element((s32[], f32[3,8]{1,0}) %p), index=1
  %slice = f32[1,8]{1,0} fusion(f32[3,8]{1,0} %x, s32[] %i), kind=kLoop, calls=%read
  %y = f32[3,8]{1,0} fusion(%x, %slice, %i), kind=kLoop, calls=%write
  ROOT %t = (s32[], f32[3,8]{1,0}) tuple(s32[] %i, f32[3,8]{1,0} %y)
}
%read (a: f32[3,8], b: s32[]) -> f32[1,8] {
  %a = f32[3,8]{1,0} parameter(0)
  %b = s32[] parameter(1)
  ROOT %d = f32[1,8]{1,0} dynamic-slice(%a, %b, %b), dynamic_slice_sizes={1,8}
}
%write (a: f32[3,8], b: f32[1,8], c: s32[]) -> f32[3,8] {
  %a = f32[3,8]{1,0} parameter(0)
  %b = f32[1,8]{1,0} parameter(1)
  %c = s32[] parameter(2)
  ROOT %u = f32[3,8]{1,0} dynamic-update-slice(%a, %b, %c, %c)
}
ENTRY %main (x: (s32[], f32[3,8])) -> (s32[], f32[3,8]) {
  %x = (s32[], f32[3,8]{1,0}) parameter(0)
  ROOT %w = (s32[], f32[3,8]{1,0}) while(%x), condition=%c, body=%body, backend_config={"known_trip_count":{"n":"3"}}
}
"""  # noqa: E501
    # A turn: 32 bytes and an index of 4 read, 32 written; the same to write it back.
    assert Program(text).moved() == 3 * 2 * (32 + 4 + 32)


# --- JAX: grouped products of the extra "kernels"


def test_grouped_products_of_tokamax(monkeypatch):
    """Values and gradients with an empty run and rows of no run; by itself or a double.

    The double is what it falls back to, so that the call is tested without it.
    """
    import jax
    import jax.numpy as jnp

    from widenet_keras.layers import expert_runs_jax
    from widenet_keras.layers.mlp import Bank, ExpertWeights, Mlp
    from widenet_keras.routing.random_draws import SILENT

    if not expert_runs_jax.has_kernels():

        def ragged_dot(rows, kernel, *, group_sizes):
            return jax.lax.ragged_dot(rows, kernel, group_sizes)

        double = types.SimpleNamespace(ragged_dot=ragged_dot)
        monkeypatch.setitem(sys.modules, "tokamax", double)
        monkeypatch.setattr(expert_runs_jax, "has_kernels", lambda: True)
    random = np.random.default_rng(0)
    shapes = (12, 8), (3, 8, 16), (3, 16), (3, 16, 8), (3, 8)
    rows, *weights = (jnp.array(random.normal(size=s), "float32") for s in shapes)
    sizes = jnp.array([4, 0, 5], "int32")

    def results(ragged):
        def loss(rows, weights):
            mlp = Mlp("gelu_tanh", None, 0.0)
            y = expert_runs_jax.run_by_expert(
                mlp, rows, sizes, Bank(ExpertWeights(*weights)), SILENT, ragged=ragged
            )
            return jnp.sum(y**2), y

        return jax.value_and_grad(loss, (0, 1), has_aux=True)(rows, weights)

    found, expected = map(jax.tree.leaves, map(results, (True, False)))
    for one, other in zip(found, expected, strict=True):
        # By the size of what is summed, not of the entry.
        size = max(1.0, np.abs(other).max())
        np.testing.assert_allclose(one, other, atol=5e-5 * size)


# --- Dropout


def test_the_hash_is_that_of_jax():
    import jax.numpy as jnp
    from jax.extend.random import threefry2x32_p

    from widenet_keras.utils.numerics_jax import threefry

    counters = jnp.arange(1000, dtype="uint32") * 977, jnp.arange(1000, dtype="uint32")
    seed = jnp.array([3, -7])
    keys = (jnp.broadcast_to(part, (1000,)) for part in seed.astype("uint32"))
    expected = threefry2x32_p.bind(*keys, *counters)
    np.testing.assert_array_equal(threefry(seed, counters, rounds=20), expected)
    # Half of all bits differ between neighbours after the rounds that are taken.
    words = np.stack(threefry(seed, counters[::-1]))
    changed = np.unpackbits((words[:, 1:] ^ words[:, :-1]).view("uint8")).mean()
    assert abs(changed - 0.5) < 0.01


@pytest.mark.parametrize(
    ("rate", "bits"), [(0.5, 8), (0.1, 8), (0.02, 16), (0.999, 16), (1e-6, 32)]
)
def test_random_bits_of_an_entry(rate, bits):
    from widenet_keras.utils.random_bits import bits_for

    assert bits_for(rate) == bits


def share_words(monkeypatch):
    """Has torch draw as it does on GPUs."""
    from widenet_keras.utils import random_torch

    monkeypatch.setattr(random_torch, "shares_words", lambda _: True)


@pytest.mark.parametrize("shares", [False, True] if BACKEND == "torch" else [False])
@pytest.mark.parametrize("rate", [0.1, 0.02])
def test_dropout_drops_at_its_rate_and_keeps_the_mean(rate, shares, monkeypatch):
    if shares:
        share_words(monkeypatch)
    draws = RandomDraws.begin(keras.random.SeedGenerator(1))
    found = numpy(draws.dropout(keras.ops.ones((333, 301)), rate))
    # Five standard deviations of 100,233 draws, and the 2 % that JAX may be off.
    wide = 5 * (rate * (1 - rate) / found.size) ** 0.5 + 0.02 * rate
    assert abs((found == 0).mean() - rate) < wide
    assert abs(found.mean() - 1) < 0.01
    kept = found[found > 0]
    np.testing.assert_allclose(kept, kept[0], rtol=1e-6)
    # Neighbours share a random word, and must not know of each other.
    dropped = (found == 0).ravel().astype("float64") - (found == 0).mean()
    correlation = (dropped[1:] * dropped[:-1]).mean() / dropped.var()
    assert abs(correlation) < 0.02


@pytest.mark.slow
def test_a_program_draws_the_masks_of_a_call(monkeypatch):
    """As on GPUs, where a program has them from their places and keeps none."""
    import torch

    from widenet_keras.layers.compiled_torch import _quiet
    from widenet_keras.utils import random_torch

    share_words(monkeypatch)

    def both(x, seed):
        kept = [random_torch.dropped(x, seed, rate) for rate in (0.1, 0.02, 1e-6)]
        return torch.stack(kept)

    x = torch.ones(7, 9, 11, requires_grad=True)
    program = torch.compile(both, fullgraph=True)
    with _quiet():
        found = program(x, random_torch.Seed(torch.tensor(5), 7))
    expected = both(x, 12)
    assert torch.equal(found, expected)
    assert torch.equal(
        *(torch.autograd.grad(y.square().sum(), x)[0] for y in (found, expected))
    )


def test_masks_of_sites_steps_and_seeds_do_not_know_of_each_other(monkeypatch):
    if BACKEND == "torch":
        share_words(monkeypatch)
    ones, masks = keras.ops.ones((512, 768)), []
    for generator in map(keras.random.SeedGenerator, (1, 2)):
        for seed in RandomDraws.begin(generator).seeds_of_steps(2):
            draws = RandomDraws(seed)
            masks += [numpy(draws.dropout(ones, 0.1)).ravel() > 0 for _ in range(3)]
    masks = [mask - mask.mean() for mask in masks]
    for i, one in enumerate(masks):
        for lag in (0, 1, 4, 768):
            for other in masks[: i + (lag > 0)]:
                rest = len(one) - lag
                scale = (one.var() * other.var() * rest) ** 0.5
                assert abs((one[lag:] * other[:rest]).sum()) < 5 * scale


# --- Places with room where nothing may be dropped


CROWDS = [-0.1, -0.3, 0.2, 9.0]


def crowded(crowd):
    """Returns layers of two engines with the same weights, and tokens of 8 images.

    Args:
        crowd: How much all tokens want the first expert.
    """
    random = np.random.default_rng(0)
    layers = [
        MixtureOfExperts(
            4,
            8,
            engine=engine,
            capacity_factor=None,
            router_noise=0.0,
            add_losses=False,
        )
        for engine in ("slots_or_all", "all_experts")
    ]
    for layer in layers:
        layer.build((None, 5, 6))
    for one, other in zip(layers[0].weights, layers[1].weights, strict=True):
        one.assign(random.normal(size=one.shape))
        other.assign(one)
    tokens = random.normal(size=(8, 5, 6)).astype("float32")
    tokens[1:] += crowd * numpy(layers[0].weights[0])[:, 0]
    return layers, tokens


def test_the_crowds_need_every_size():
    """A fair batch fits, and so on until all experts compute all tokens."""
    needed = set()
    for crowd in CROWDS:
        (layer, _), tokens = crowded(crowd)
        chosen = numpy(layer.routed_experts(tokens)[1].experts)
        needed.add(np.bincount(chosen.ravel(), minlength=4).max() / (chosen.size / 4))
    small, large = slots_or_all.ROOMS
    assert min(needed) <= small < max(n for n in needed if n <= large)
    assert max(needed) > large


@pytest.mark.parametrize("crowd", CROWDS)
def test_a_prediction_does_not_know_whether_an_expert_overflowed(crowd):
    layers, tokens = crowded(crowd)
    alone, together = (numpy(layers[0](x)) for x in (tokens[:1], tokens))
    np.testing.assert_allclose(together[:1], alone, atol=1e-5)
    np.testing.assert_allclose(together, numpy(layers[1](tokens)), atol=1e-5)


@pytest.mark.parametrize("crowd", [CROWDS[0], slow(CROWDS[1]), CROWDS[-1]])
def test_gradients_do_not_know_whether_an_expert_overflowed(crowd):
    layers, tokens = crowded(crowd)
    inputs = keras.Variable(tokens)

    def results(layer):
        def loss():
            return keras.ops.sum(layer(inputs, training=True) ** 2)

        return value_and_gradients(loss, [*layer.trainable_weights, inputs])[1]

    for one, other in zip(*map(results, layers), strict=True):
        size = max(1.0, np.abs(other).max())
        np.testing.assert_allclose(one, other, atol=1e-5 * size)


# --- TensorFlow: XLA around layers


@pytest.mark.parametrize("training", [True, False])
def test_a_layer_inside_xla_takes_static_shapes(training):
    import tensorflow as tf

    layer = MixtureOfExperts(4, 8, top_k=2, router_noise=0.0)
    x = np.random.default_rng(0).normal(size=(3, 5, 6)).astype("float32")
    expected = numpy(layer(x, training=training))
    compiled = tf.function(lambda x: layer(x, training=training), jit_compile=True)
    np.testing.assert_allclose(numpy(compiled(x)), expected, atol=1e-5)


@pytest.mark.slow
def test_a_classifier_inside_xla_takes_static_shapes():
    import tensorflow as tf

    classifier = tiny_model(router_noise=0.0, dropout=0.0)
    images = tiny_images(4)
    inputs = keras.Input(classifier.config.image_shape)
    model = keras.Model(inputs, keras.layers.Softmax()(classifier(inputs)))
    model.compile("sgd", "sparse_categorical_crossentropy", jit_compile=True)
    assert np.isfinite(model.fit(images, np.arange(4), verbose=0).history["loss"][0])
    around = tf.function(lambda x: classifier(x), jit_compile=True)
    expected = numpy(classifier(images))
    np.testing.assert_allclose(numpy(around(images)), expected, atol=1e-5)


# --- torch: what a training step asks of the device


def counted(function):
    """Returns how often each operation of torch runs in a call."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], acc_events=True) as found:
        function()
    return {event.key: event.count for event in found.key_averages()}


def test_seeds_are_counted_without_a_look():
    """As Keras counts them, also after somebody else has moved the generator."""
    mine, same = (keras.random.SeedGenerator(7) for _ in range(2))
    for turn in range(6):
        if turn == 3:
            mine.next()
            same.next()
        if turn == 5:
            mine.state.assign([3, 9])
            same.state.assign([3, 9])
        assert numerics.first_seed(mine) == sum(numpy(same.next()).tolist())
    count = counted(lambda: numerics.first_seed(mine))
    assert "aten::_local_scalar_dense" not in count
    assert "aten::item" not in count


def test_a_training_step_hardly_waits_for_the_device():
    model = tiny_model(steps=3, stochastic_depth=0.1)
    assert model.config.dropout
    model.compile()
    batch = (keras.ops.convert_to_tensor(tiny_images(4)), keras.ops.arange(4))
    model.train_step(batch)
    count = counted(lambda: model.train_step(batch))
    assert count.get("aten::_local_scalar_dense", 0) <= 3


@pytest.mark.parametrize("grouped", [False, True])
def test_a_mixture_of_experts_adds_no_row_by_index(grouped, monkeypatch):
    from widenet_keras.layers import routed_experts_torch

    layer = MixtureOfExperts(4, 8, capacity_factor=0.5, dropout=0.1)
    x = keras.random.normal((3, 8, 16))
    monkeypatch.setattr(routed_experts_torch, "takes_stack", lambda *_: grouped)
    layer(x, training=True)
    count = counted(lambda: (layer(x, training=True) ** 2).sum().backward())
    for word in ("index_put", "where", "IndexBackward"):
        assert not [key for key in count if word in key], word


def test_grouped_runs_give_the_numbers_of_runs_in_turn(monkeypatch):
    """As on a GPU: dropped choices are computed and nulled by their gates."""
    from widenet_keras.layers import routed_experts_torch

    layer = MixtureOfExperts(4, 8, capacity_factor=0.5, router_noise=0.0)
    x = np.random.default_rng(0).normal(size=(3, 8, 16)).astype("float32")

    def run():
        layer.zero_grad()
        y = layer(x, training=True)
        (y**2).sum().backward()
        return [numpy(y), *(numpy(w.value.grad) for w in layer.trainable_weights)]

    expected = run()
    monkeypatch.setattr(routed_experts_torch, "takes_stack", lambda *_: True)
    for one, other in zip(run(), expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


# --- torch: compiled steps


def answers(compiled, dtype="float32", terms=(), rate=0.01, **fields):
    """Returns weights of a model after batches of several sizes, and its logits."""
    keras.utils.set_random_seed(0)
    model = tiny_model(steps=4, dtype=dtype, stochastic_depth=0.1, **fields)
    optimizer = keras.optimizers.SGD(rate)
    model.compile(optimizer, terms=terms, jit_compile=compiled)
    images, labels = tiny_images(6), np.arange(6) % 5
    for size in (4, 3, 2):
        model.train_on_batch(images[:size], labels[:size])
    found = [numpy(weight) for weight in model.trainable_weights]
    found.append(model.predict(images, batch_size=3, verbose=0))
    return found


# As many pairs and prompts as images in a batch: their number is no batch's.
PIECES = [
    {"kind": "lora", "rank": 2, "on": ["query", "value"], "bank": 2},
    {"kind": "bottleneck", "rank": 2, "bank": 2},
    {"kind": "prompt", "count": 2},
    {"kind": "key_value_prompt", "count": 2},
    {"kind": "residual_scale"},
    {"kind": "projection"},
    {"kind": "head_mix"},
    {"kind": "relative_keys"},
    {"kind": "token_conv", "size": 3},
]
COMPILED = ["widenet", "vit", "vit_moe", "many", "pieces", "nested", "step widths"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*COMPILED, "groups", "paths", "ring", "terms"])
def test_compiled_steps_give_the_same_numbers_in_one_graph(kind, monkeypatch):
    import torch
    from torch._dynamo.utils import counters

    from widenet_keras.layers import compiled_torch

    # Two programs of two steps each, which are one and the same.
    monkeypatch.setattr(compiled_torch, "_AT_ONCE", 2)
    anew = functools.cache(compiled_torch._cut.__wrapped__)
    monkeypatch.setattr(compiled_torch, "_cut", anew)
    torch._dynamo.reset()
    fields = {"kind": kind, "capacity_factor": 0.7}
    if kind == "many":
        fields = {"kind": "vit", **MANY}
    if kind == "pieces":
        cycle = {"sharing": "cycle", "unique_blocks": 2, "pooling": "mean"}
        cycle["class_token"] = False
        fields = {"kind": "vit", "pieces": PIECES, **cycle}
    if kind == "groups":
        tokens = {"class_token": False, "pooling": "mean", "attention_groups": 3}
        fields = {"kind": "vit", **tokens, "sharing": "cycle", "unique_blocks": 2}
    if kind == "nested":
        fields = {"nested_widths": (0.5, 1.0), "capacity_factor": 0.7}
    if kind == "paths":
        fields = {"kind": "vit", "paths": 2, "cheap_features": "maximum"}
    if kind == "ring":
        fields = {"kind": "vit", "ring_size": 500}
    if kind == "step widths":
        fields = {"kind": "vit", "sharing": "all", "step_widths": (5, 5, 10, 10)}
    if kind == "terms":
        # Which look at the last step: a program of two steps alike, and this one.
        relation = widenet_keras.RelationDistillation(tiny_model("vit"), heads=2)
        fields = {"kind": "vit", "sharing": "all", "terms": [relation]}
    if kind in ("widenet", "vit_moe", "nested"):
        # In experts dropout draws by the layout of rows, in which dropped ones differ.
        fields["dropout"] = 0.0
    expected = answers(False, **fields)
    counters.clear()
    found = answers(True, **fields)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    # One for training and one for inference, for all blocks of a kind and all sizes.
    blocks = 2 if kind in ("vit_moe", "step widths", "terms") else 1
    assert 0 < counters["stats"]["unique_graphs"] <= 2 * blocks
    assert not counters["graph_break"]


@pytest.mark.slow
def test_models_do_not_share_the_limit_of_recompilations(monkeypatch):
    """torch counts by the code of a function; at its limit a step runs as it is."""
    import torch._dynamo

    from widenet_keras.layers import compiled_torch

    monkeypatch.setattr(compiled_torch, "_refused", set())
    images = tiny_images(2)
    with torch._dynamo.config.patch(recompile_limit=1):
        for width in (6, 12):
            model = tiny_model(kind="vit", width=width, mlp_dim=8)
            model.compile(jit_compile=True)
            model.predict(images, verbose=0)
        assert not compiled_torch._refused
        # A batch of one would be a program of its own.
        with pytest.warns(UserWarning, match="does not take this block"):
            model.predict(images[:1], verbose=0)


THIN, THICK = (3, 4, 4, 5), (3, 4, 4, 10)
ONE_ATTENTION = {"steps": 12, "sharing": "attention", "moe_blocks": "none"}


@pytest.mark.parametrize(
    ("fields", "sizes"),
    [
        ({"kind": "vit", "steps": 12}, [4, 4, 4]),
        ({"kind": "vit", "steps": 10}, [2] * 5),
        ({"kind": "vit", "steps": 5}, [1] * 5),
        ({"kind": "vit_moe", "steps": 8}, [3, 3, 2]),
        # Four blocks, each read by three neighbours; then by steps three apart.
        ({"steps": 12, "sharing": "sequence", "unique_blocks": 4}, [3] * 4),
        ({"steps": 12, "sharing": "cycle", "unique_blocks": 3}, [4] * 3),
        # One attention for three neighbours, so that programs of four would differ.
        ({**ONE_ATTENTION, "unique_blocks": 4}, [3] * 4),
        ({"steps": 8, "remat": "full"}, [1] * 8),
        ({"kind": "vit", "steps": 4, "block_sizes": [THIN] * 2 + [THICK] * 2}, [2, 2]),
        ({"steps": 5, "step_widths": (5, 5, 14, 14, 14)}, [2, 3]),
    ],
)
def test_steps_are_cut_so_that_they_share_a_program(fields, sizes):
    from widenet_keras.layers import compiled_torch

    model = tiny_model(**fields)
    how = model.encoder._depth(True, ())
    parts = compiled_torch._cut(how.plans, how)
    assert [len(part) for part in parts] == sizes
    kinds = {(how.specs[plan.block], plan.hidden) for plan in how.plans}
    assert len({compiled_torch._key(part, how) for part in parts}) == len(kinds)
    # A last step that is looked at is in one more program, and no more are called.
    looked_at = model.encoder._depth(True, (fields["steps"] - 1,))
    seen = compiled_torch._cut(looked_at.plans, looked_at)
    assert [len(part) for part in seen] == sizes
    keys = {compiled_torch._key(part, looked_at) for part in seen[:-1]}
    assert compiled_torch._key(seen[-1], looked_at) not in keys


@pytest.mark.slow
def test_compiled_grouped_products(monkeypatch):
    """As bfloat16 runs on a GPU; widths of whole 16 bytes."""
    from widenet_keras.layers import routed_experts_torch

    monkeypatch.setattr(routed_experts_torch, "takes_stack", lambda *_: True)
    fields = {"width": 24, "expert_dim": 16, "dropout": 0.0, "dtype": "mixed_bfloat16"}
    found, expected = answers(True, **fields), answers(False, **fields)
    start = answers(False, rate=0.0, **fields)
    moved, apart = (
        np.array([np.abs(a - b).mean() for a, b in zip(expected, others, strict=True)])
        for others in (start, found)
    )
    # Rounding sends a few tokens elsewhere, whose numbers are then others; biases of
    # keys are moved by rounding alone.
    assert (apart < 0.15 * moved + 1e-3 * moved.max()).all()


def test_a_step_that_does_not_compile_runs_as_it_is(monkeypatch):
    from torch._dynamo.exc import TorchDynamoException

    from widenet_keras.layers import compiled_torch

    def refuses(_):
        raise TorchDynamoException("no such thing")

    monkeypatch.setattr(compiled_torch, "_program", refuses)
    monkeypatch.setattr(compiled_torch, "_refused", set())
    expected = answers(False, kind="vit")
    with pytest.warns(UserWarning, match="does not take this block") as warned:
        found = answers(True, kind="vit")
    lines = [str(each.message) for each in warned]
    # Once for all blocks, steps and batches.
    assert len([line for line in lines if "no such thing" in line]) == 1
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
