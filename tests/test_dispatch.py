"""The fast dispatch against the per-token loop: output and every gradient."""

import keras
import numpy as np
import pytest
from conftest import BACKEND, numpy, slow
from gradients import value_and_gradients
from oracle import MoeOracle

from widenet_keras.layers import MixtureOfExperts
from widenet_keras.routing.capacity import capacity_for
from widenet_keras.routing.engines import ENGINES

NAMES = ("router", "w1", "b1", "w2", "b2")

# name: (B, T, D, F, E, K, capacity factor, images per group, more arguments)
SCENES = {
    "usual": (3, 9, 8, 12, 4, 2, 1.2, 1, {}),
    "odd sizes": (5, 7, 5, 11, 3, 2, 1.0, 1, {}),
    "one image": (1, 10, 6, 8, 4, 2, 1.2, 1, {}),
    "one token": (4, 1, 6, 8, 4, 2, 1.0, 1, {}),
    "one of everything": (1, 1, 3, 2, 1, 1, 1.0, 1, {}),
    "fewer choices than experts": (1, 1, 3, 2, 4, 2, 1.0, 1, {}),
    "all experts chosen": (2, 6, 6, 8, 3, 3, 1.0, 1, {}),
    "top 1": (3, 8, 6, 8, 4, 1, 1.0, 1, {}),
    "five of seven": (2, 9, 6, 8, 7, 5, 0.6, 1, {}),
    "tight": (3, 9, 6, 8, 4, 2, 0.3, 1, {}),
    "ample": (3, 9, 6, 8, 4, 2, 4.0, 1, {}),
    "nothing dropped": (3, 9, 6, 8, 4, 2, None, 1, {}),
    "groups of images": (4, 5, 6, 8, 4, 2, 0.8, 2, {}),
    "partial last group": (5, 5, 6, 8, 4, 2, 0.8, 3, {}),
    "group over the batch": (2, 5, 6, 8, 4, 2, 0.8, 8, {}),
    "grouped router": (3, 7, 6, 8, 6, 2, 0.7, 1, {"router": "grouped_top_1"}),
    "second gelu": (3, 7, 6, 8, 4, 2, 1.0, 1, {"output_activation": "gelu_tanh"}),
}


def make(scene, engine="auto"):
    """Returns (layer, its weights by the oracle's names, tokens, oracle)."""
    batch, tokens, width, hidden, experts, top_k, factor, group, more = scene
    layer = MixtureOfExperts(
        experts,
        hidden,
        top_k=top_k,
        capacity_factor=factor,
        images_per_group=group,
        engine=engine,
        router_noise=0.0,
        add_losses=False,
        **more,
    )
    layer.build((None, tokens, width))
    random = np.random.default_rng(7)
    for weight in layer.weights:
        weight.assign(random.normal(size=weight.shape) * 0.5)
    by_name = dict(zip(NAMES, layer.weights, strict=True))
    x = random.normal(size=(batch, tokens, width)).astype("float32")
    oracle = MoeOracle(
        {name: numpy(w).astype("float64") for name, w in by_name.items()},
        top_k,
        factor,
        group,
        groups=top_k if more.get("router") == "grouped_top_1" else 1,
        output_gelu="output_activation" in more,
    )
    return layer, by_name, x, oracle


def check(layer, by_name, x, oracle, training=True, traced=False):
    """Compares output, balance loss and all gradients of one layer."""
    random = np.random.default_rng(3)
    dy = random.normal(size=x.shape)
    expected = oracle.forward(x.astype("float64"))
    inputs = keras.Variable(x)

    def loss():
        y, record = layer.routed_experts(inputs, training=training)
        weighted = keras.ops.sum(y * keras.ops.convert_to_tensor(dy, "float32"))
        return weighted + 0.7 * record.balance_loss, (y, record)

    variables = [by_name[name] for name in NAMES] + [inputs]
    value, gradients, (y, record) = value_and_gradients(loss, variables, traced)
    np.testing.assert_allclose(
        value, (expected * dy).sum() + 0.7 * oracle.balance_loss(), rtol=1e-5, atol=1e-5
    )
    wanted = oracle.backward(dy, balance_weight=0.7)
    for name, gradient in zip((*NAMES, "x"), gradients, strict=True):
        # float32 rounds by the size of what is summed, not of the entry.
        size = max(1.0, np.abs(wanted[name]).max())
        np.testing.assert_allclose(
            gradient, wanted[name], rtol=1e-5, atol=1e-5 * size, err_msg=name
        )
    np.testing.assert_allclose(numpy(y), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(
        numpy(record.expert_fraction), oracle.choices["fraction"], atol=1e-6
    )
    np.testing.assert_allclose(
        numpy(record.dropped_fraction), oracle.choices["dropped"], atol=1e-6
    )
    np.testing.assert_array_equal(
        np.swapaxes(numpy(record.experts), 1, 2), oracle.choices["wanted"]
    )


# Scenes that differ in what an engine other than JAX's default must get right.
TELLING = ("odd sizes", "one token", "partial last group")


def scenes_and_engines():
    """Yields every scene with every engine; on JAX some of them as slow."""
    for scene in SCENES:
        for engine in ENGINES:
            rare = BACKEND == "jax" and engine != "sorted" and scene not in TELLING
            yield slow(scene, engine, when=rare)


@pytest.mark.parametrize(("scene", "engine"), list(scenes_and_engines()))
def test_training_equals_the_loop(scene, engine):
    check(*make(SCENES[scene], engine), traced=scene == "usual")


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("scene", ["usual", "odd sizes", "one of everything"])
def test_inference_equals_the_loop_without_drops(scene, engine):
    layer, by_name, x, oracle = make(SCENES[scene], engine)
    oracle.capacity_factor = None
    check(layer, by_name, x, oracle, training=False)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("factor", [0.5, 1.0, None])
def test_all_tokens_to_one_expert(factor, engine):
    layer, by_name, x, oracle = make((2, 8, 6, 8, 4, 1, factor, 1, {}), engine)
    x[..., 0] = 5.0
    kernel = np.zeros((6, 4))
    kernel[0, 2] = 3.0
    by_name["router"].assign(kernel)
    oracle.w["router"] = kernel
    check(layer, by_name, x, oracle)
    # C = ceil(factor * 8 / 4) of the 8 tokens find a place.
    dropped = {0.5: 7 / 8, 1.0: 6 / 8, None: 0.0}[factor]
    assert oracle.choices["dropped"] == dropped


def test_ties_go_to_the_lower_expert_on_every_backend():
    layer, by_name, x, oracle = make(SCENES["usual"])
    by_name["router"].assign(np.zeros((8, 4)))
    oracle.w["router"] = np.zeros((8, 4))
    check(layer, by_name, x, oracle)
    assert set(oracle.choices["wanted"][..., 0].ravel()) == {0}


def test_first_choices_queue_before_any_second_choice():
    # Two tokens, two experts, one place each (C = 0.5 * 2 * 2 / 2 = 1). Token 0
    # prefers expert 1, token 1 prefers expert 0: both keep their first choice.
    # In token order token 0 would take both places and token 1 none.
    layer = MixtureOfExperts(
        2, 3, top_k=2, capacity_factor=0.5, router_noise=0.0, add_losses=False
    )
    layer.build((None, 2, 2))
    router, w1, b1, w2, b2 = layer.weights
    router.assign([[0.0, 2.0], [2.0, 0.0]])
    for weight in (w1, b1, w2):
        weight.assign(np.zeros(weight.shape))
    b2.assign([[10.0, 0.0], [0.0, 10.0]])
    y = numpy(layer(np.eye(2, dtype="float32")[None], training=True))[0]
    p = np.exp(2) / (np.exp(2) + 1)
    np.testing.assert_allclose(y, [[0.0, 10 * p], [10 * p, 0.0]], rtol=1e-5)


@pytest.mark.parametrize(
    ("tokens", "experts", "top_k", "factor", "capacity"),
    [
        (197, 4, 2, 1.2, 119),  # 1.2 * 2 * 197 / 4 = 118.2
        (10, 2, 2, 1.1, 10),  # 11, but an expert cannot take more than 10
        (20, 4, 2, 1.1, 11),  # exactly 11; binary floats say 11.000000000000002
        (64, 8, 3, 1.25 / 3, 10),  # exactly 10, as with 1.25 and one choice
        (7, 7, 1, 0.01, 1),
        (7, 7, 1, 1e-9, 1),
        (16, 4, 1, 1.0, 4),
    ],
)
def test_capacity(tokens, experts, top_k, factor, capacity):
    assert capacity_for(tokens, experts, top_k, factor) == capacity


def test_groups_never_change_inference():
    scene = SCENES["partial last group"]
    grouped, _, x, _ = make(scene)
    alone, _, _, _ = make((*scene[:7], 1, {}), "all_experts")
    np.testing.assert_allclose(
        numpy(grouped(x, training=False)), numpy(alone(x, training=False)), atol=1e-6
    )


def test_rooms_where_the_size_of_the_batch_is_not_known():
    layer = MixtureOfExperts(4, 8, engine="slots_or_all")
    inputs = keras.Input((6, 5))
    model = keras.Model(inputs, layer(inputs))
    tokens = np.random.default_rng(0).normal(size=(3, 6, 5)).astype("float32")
    found = model.predict(tokens, verbose=0)
    np.testing.assert_allclose(found, numpy(layer(tokens)), atol=1e-5)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="only its graphs do not know it")
def test_an_unknown_number_of_tokens():
    import tensorflow as tf

    layer = MixtureOfExperts(4, 8)
    layer.build((None, None, 5))
    graph = tf.function(layer, input_signature=[tf.TensorSpec((None, None, 5))])
    with pytest.raises(ValueError, match="must know how many") as error:
        graph(tf.ones((3, 6, 5)))
    assert "Exception encountered" not in str(error.value)


def test_what_is_set_later_is_kept():
    layer = MixtureOfExperts(4, 8)
    layer.balance_loss_weight, layer.add_losses = 0.5, False
    again = MixtureOfExperts.from_config(layer.get_config())
    assert (again.balance_loss_weight, again.add_losses) == (0.5, False)
