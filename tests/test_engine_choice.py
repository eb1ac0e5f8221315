"""Which engine "auto" is: by backend, device, capacity, compiler, distribution."""

import keras
import numpy as np
import pytest
from conftest import BACKEND, numpy, tiny_images, tiny_model

from widenet_keras.routing.engines import ENGINES, choice, engine_named
from widenet_keras.utils.execution import execution

FALLBACK = {True: "slots", False: "all_experts"}


@pytest.mark.parametrize("has_capacity", [True, False])
def test_cpu_takes_the_engine_with_the_least_arithmetic(has_capacity):
    assert engine_named("auto", has_capacity) is ENGINES["sorted"]


@pytest.mark.parametrize("has_capacity", [True, False])
def test_static_shapes_need_static_engines_on_tensorflow_only(has_capacity):
    name = FALLBACK[has_capacity] if BACKEND == "tensorflow" else "sorted"
    with execution(static_shapes=True):
        assert engine_named("auto", has_capacity) is ENGINES[name]
    assert engine_named("auto", has_capacity) is ENGINES["sorted"]


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        ("cpu", {"tensorflow": "sorted", "jax": "sorted"}),
        ("gpu", {"tensorflow": "sorted", "jax": "slots"}),
        ("tpu", {"tensorflow": "one_hot", "jax": "sorted"}),
    ],
)
def test_devices_in_training(device, expected, monkeypatch):
    monkeypatch.setattr(choice, "_device", lambda: device)
    name = expected.get(BACKEND, "sorted")
    assert engine_named("auto", True) is ENGINES[name]


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        ("cpu", {"tensorflow": "sorted", "jax": "sorted"}),
        ("gpu", {"tensorflow": "sorted", "jax": "slots_or_all"}),
        ("tpu", {"tensorflow": "all_experts", "jax": "slots_or_all"}),
    ],
)
def test_devices_at_inference(device, expected, monkeypatch):
    monkeypatch.setattr(choice, "_device", lambda: device)
    monkeypatch.setattr(choice, "has_kernels", lambda: False)
    name = expected.get(BACKEND, "sorted")
    assert engine_named("auto", False) is ENGINES[name]
    monkeypatch.setattr(choice, "has_kernels", lambda: True)
    if BACKEND == "jax" and device == "tpu":
        name = "sorted"
    assert engine_named("auto", False) is ENGINES[name]


def test_devices_that_share_a_batch_get_products_per_image(monkeypatch):
    monkeypatch.setattr(keras.distribution, "distribution", lambda: object())
    assert engine_named("auto", True) is ENGINES["one_hot"]
    assert engine_named("auto", False) is ENGINES["all_experts"]


def test_a_name_and_a_caller_outrank_the_choice():
    assert engine_named("slots", False) is ENGINES["slots"]
    with execution(engine="one_hot"):
        assert engine_named("auto", True) is ENGINES["one_hot"]
        assert engine_named("slots", True) is ENGINES["slots"]
        with execution(engine="sorted"):
            assert engine_named("auto", True) is ENGINES["sorted"]
        assert engine_named("auto", True) is ENGINES["one_hot"]


@pytest.mark.slow
def test_engines_give_a_model_the_same_logits_and_losses():
    images = tiny_images(5)
    labels = np.arange(5)
    reference = None
    for engine in ENGINES:
        keras.utils.set_random_seed(0)
        # Dropout draws by the layout of the rows, which the engines differ in.
        model = tiny_model(engine=engine, capacity_factor=0.8, dropout=0.0)
        logits = numpy(model(images))
        model.compile(optimizer="sgd")
        logs = model.fit(images, labels, batch_size=3, verbose=0).history
        found = [logits, logs["loss"][0], logs["dropped_fraction"][0]]
        reference = reference or found
        for mine, theirs in zip(found, reference, strict=True):
            np.testing.assert_allclose(mine, theirs, atol=2e-5)


@pytest.mark.slow
def test_jit_compile_takes_static_engines_and_loops_over_static_batches():
    import tensorflow as tf

    model = tiny_model(router_noise=0.0, dropout=0.0, scan="always")
    images, labels = tiny_images(8), np.arange(8) % 5
    whole_batches = tf.data.Dataset.from_tensor_slices((images, labels)).batch(
        4, drop_remainder=True
    )
    expected = numpy(model(images))
    model.compile(optimizer=keras.optimizers.SGD(0.0), jit_compile=True)
    on = model.fit(whole_batches, shuffle=False, verbose=0).history
    model.compile(optimizer=keras.optimizers.SGD(0.0), jit_compile=False)
    off = model.fit(whole_batches, shuffle=False, verbose=0).history
    assert on["loss"][0] == pytest.approx(off["loss"][0], abs=1e-5)
    model.compile(jit_compile=True)
    np.testing.assert_allclose(model.predict(images, verbose=0), expected, atol=1e-5)
