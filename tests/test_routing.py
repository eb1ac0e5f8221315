"""Routers, auxiliary losses and the routing map, against numbers by hand."""

import keras
import numpy as np
import pytest
from conftest import numpy, shake, tiny_images, tiny_model

from widenet_keras import preset_config
from widenet_keras.layers import Experts, GroupedTop1Router, RoutedExperts, TopKRouter
from widenet_keras.routing import RoutingRecord, balance_loss, router_z_loss
from widenet_keras.routing.capacity import capacity_for
from widenet_keras.routing.losses import expert_fraction
from widenet_keras.routing.random_draws import RandomDraws

# Two tokens of one image, three experts.
PROBABILITIES = np.array([[[0.5, 0.3, 0.2], [0.1, 0.6, 0.3]]], "float32")


def router_for(kernel, router=TopKRouter, **arguments):
    """Returns a router whose kernel is given."""
    kernel = np.asarray(kernel, "float32")
    layer = router(kernel.shape[1], **arguments)
    layer.build((None, None, kernel.shape[0]))
    layer.kernel.assign(kernel)
    return layer


def test_balance_loss_of_a_hand_made_scene():
    # Choices: token 0 takes experts 0 and 1, token 1 takes 1 and 2.
    experts = np.array([[[0, 1], [1, 2]]], "int32")  # (B, K, T)
    fraction = expert_fraction(keras.ops.convert_to_tensor(experts), 3)
    # f = (1, 2, 1) / 4 choices.
    np.testing.assert_allclose(numpy(fraction), [0.25, 0.5, 0.25])
    # P = ((.5 + .1) / 2, (.3 + .6) / 2, (.2 + .3) / 2) = (.3, .45, .25), so
    # E * sum f P = 3 * (.25 * .3 + .5 * .45 + .25 * .25) = 3 * .3625 = 1.0875.
    loss = balance_loss(keras.ops.convert_to_tensor(PROBABILITIES), fraction)
    np.testing.assert_allclose(float(numpy(loss)), 1.0875, rtol=1e-6)


def test_balance_loss_is_one_at_perfect_balance():
    # f = P = (1/4, ...): 4 * 4 * 1/16 = 1.
    probabilities = keras.ops.full((2, 3, 4), 0.25)
    fraction = keras.ops.full((4,), 0.25)
    assert float(numpy(balance_loss(probabilities, fraction))) == pytest.approx(1.0)


def test_balance_loss_of_groups_is_the_mean_of_the_groups():
    # Two groups of two. Group 0: P = (.8, .2), all its choices to expert 0, so
    # 2 * (1 * .8) = 1.6. Group 1: P = f = (.5, .5), so 2 * (.25 + .25) = 1.
    # The mean is 1.3. Over all experts f = (.5, 0, .25, .25).
    probabilities = np.array([[[0.8, 0.2, 0.5, 0.5]]], "float32")
    loss = balance_loss(
        keras.ops.convert_to_tensor(probabilities),
        keras.ops.convert_to_tensor([0.5, 0.0, 0.25, 0.25]),
        softmaxes=2,
    )
    assert float(numpy(loss)) == pytest.approx(1.3)


def test_router_z_loss_of_a_hand_made_scene():
    # logsumexp(0, 0) = ln 2 and logsumexp(ln 3, 0) = ln 4, so the mean of the
    # squares is (ln(2)^2 + ln(4)^2) / 2 = 2.5 * ln(2)^2.
    logits = np.array([[[0.0, 0.0], [np.log(3.0), 0.0]]], "float32")
    loss = router_z_loss(keras.ops.convert_to_tensor(logits))
    assert float(numpy(loss)) == pytest.approx(2.5 * np.log(2) ** 2, rel=1e-6)


def test_gates_are_raw_probabilities_best_first():
    # Logits (0, ln 2, ln 5) have softmax (1, 2, 5) / 8.
    router = router_for(np.log([[1.0, 2.0, 5.0]]), top_k=2)
    choices = router(np.ones((1, 1, 1), "float32"))
    np.testing.assert_allclose(numpy(choices.gates)[0, :, 0], [5 / 8, 2 / 8], rtol=1e-6)
    np.testing.assert_array_equal(numpy(choices.experts())[0, :, 0], [2, 1])


def test_grouped_router_picks_one_winner_in_each_group():
    # Groups (0, ln 3) and (ln 4, 0): softmax (1, 3) / 4 and (4, 1) / 5.
    router = router_for(np.log([[1.0, 3.0, 4.0, 1.0]]), GroupedTop1Router, top_k=2)
    choices = router(np.ones((1, 1, 1), "float32"))
    np.testing.assert_array_equal(numpy(choices.experts())[0, :, 0], [1, 2])
    np.testing.assert_allclose(numpy(choices.gates)[0, :, 0], [0.75, 0.8], rtol=1e-6)


def test_one_group_equals_top_1_and_all_groups_equal_the_plain_sum():
    kernel = np.random.default_rng(0).normal(size=(5, 4))
    x = np.random.default_rng(1).normal(size=(2, 3, 5)).astype("float32")
    one = router_for(kernel, GroupedTop1Router, top_k=1)(x)
    top = router_for(kernel, TopKRouter, top_k=1)(x)
    np.testing.assert_allclose(numpy(one.gates), numpy(top.gates), rtol=1e-6)
    np.testing.assert_array_equal(numpy(one.mask), numpy(top.mask))
    every = router_for(kernel, GroupedTop1Router, top_k=4)(x)
    np.testing.assert_allclose(numpy(every.gates), 1.0)


def grouped(experts, top_k, width=8):
    """Returns built `RoutedExperts` of groups, of which nothing is as it started."""
    router = GroupedTop1Router(experts, top_k, noise=0.0)
    layer = RoutedExperts(router, Experts(experts, 5), capacity_factor=None)
    layer.build((None, 7, width))
    shake(layer.weights, 1.0)
    return layer


def test_experts_may_change_places_inside_their_group_alone():
    x = np.random.default_rng(2).normal(size=(3, 7, 8)).astype("float32")
    layer, other = grouped(6, 2), grouped(6, 2)
    wanted = numpy(layer(x)[0])
    for order, same in (([2, 0, 1, 4, 3, 5], True), ([3, 1, 2, 0, 4, 5], False)):
        for before, after in zip(layer.weights, other.weights, strict=True):
            axis = 1 if before is layer.router.kernel else 0
            after.assign(np.take(numpy(before), order, axis))
        found = numpy(other(x)[0])
        assert (np.abs(found - wanted).max() < 1e-5) == same, order


@pytest.mark.parametrize(("experts", "top_k"), [(6, 2), (8, 4), (5, 5), (7, 1)])
def test_as_many_experts_as_groups_compute_each_token(experts, top_k):
    """Expert e gives 1 in place e, so that the output is the gates of who computed."""
    layer = grouped(experts, top_k)
    bank = layer.experts
    bank.outer_kernel.assign(np.zeros(bank.outer_kernel.shape))
    bank.outer_bias.assign(np.eye(experts, 8))
    x = np.random.default_rng(2).normal(size=(3, 7, 8)).astype("float32")
    gates = numpy(layer(x)[0])[..., :experts]
    computed = gates.reshape(3, 7, top_k, -1) > 0
    np.testing.assert_array_equal(computed.sum(-1), 1)
    assert gates[gates > 0].min() >= top_k / experts - 1e-6
    assert gates.max() <= 1 + 1e-6
    sums = gates.sum(-1)
    assert sums.min() >= top_k**2 / experts - 1e-5
    assert sums.max() <= top_k + 1e-5


def test_room_that_stays_while_choices_grow():
    """Capacity "1x" of M6-T: C of one choice, whatever K is."""
    for tokens in range(1, 70):
        wanted = capacity_for(tokens, 8, 1, 1.25)
        for top_k in (2, 4, 8):
            assert capacity_for(tokens, 8, top_k, 1.25 / top_k) == wanted
    config = preset_config("m6t_small_32")
    assert (config.num_experts, config.expert_dim, config.top_k) == (8, 256, 2)
    assert config.router == "grouped_top_1"
    assert config.balance_loss_weight == 0
    sizes = config.tokens, config.num_experts, config.top_k, config.capacity_factor
    assert capacity_for(*sizes) == 11  # 1.25 * 65 / 8 = 10.2


def test_noise_is_normal_with_std_one_over_e_and_only_in_training():
    router = router_for(np.zeros((2, 5)), top_k=1, noise=1.0)
    x = np.ones((64, 50, 2), "float32")
    silent = router(x)
    np.testing.assert_allclose(numpy(silent.probabilities), 0.2, rtol=1e-6)
    noisy = router(x, draws=RandomDraws.begin(keras.random.SeedGenerator(0)))
    # log p differs from the noise by one constant per token.
    logits = np.log(numpy(noisy.probabilities))
    logits -= logits.mean(-1, keepdims=True)
    # Removing the mean of 5 leaves 4/5 of the variance of std 1/5.
    assert logits.std() == pytest.approx(np.sqrt(0.8) / 5, rel=0.02)
    np.testing.assert_allclose(numpy(noisy.logits), 0.0)


def test_router_stays_in_float32_under_a_mixed_policy():
    model = tiny_model(dtype="mixed_bfloat16")
    router = model.encoder.blocks[0].feed_forward.router
    assert router.compute_dtype == "float32"
    _, record = model(tiny_images(), return_routing=True)
    assert keras.backend.standardize_dtype(record.gates.dtype) == "float32"


def test_record_has_one_entry_per_routed_step():
    model = tiny_model("vit_moe")
    _, record = model(tiny_images(3), training=True, return_routing=True)
    assert isinstance(record, RoutingRecord)
    # S = 2 of the 3 steps, E = 4, B = 3, K = 2, T = 10.
    shapes = {name: tuple(value.shape) for name, value in record._asdict().items()}
    assert shapes == {
        "balance_loss": (2,),
        "z_loss": (2,),
        "expert_fraction": (2, 4),
        "mean_probability": (2, 4),
        "dropped_fraction": (2,),
        "experts": (2, 3, 2, 10),
        "gates": (2, 3, 2, 10),
    }
    np.testing.assert_allclose(numpy(record.expert_fraction).sum(-1), 1.0, rtol=1e-6)
    np.testing.assert_allclose(numpy(record.mean_probability).sum(-1), 1.0, rtol=1e-5)


@pytest.mark.parametrize("router", ["top_k", "grouped_top_1"])
def test_routing_map_tells_every_choice(router):
    model = tiny_model("vit_moe", router=router)
    images = tiny_images(5)
    routing = model.routing(images, batch_size=2)
    assert routing.experts.shape == routing.gates.shape == (2, 5, 10, 2)
    assert routing.steps == (1, 2)
    assert (np.diff(routing.gates, axis=-1) <= 0).all()
    assert (routing.experts[..., 0] != routing.experts[..., 1]).all()
    np.testing.assert_allclose(routing.load().sum(-1), 1.0)
    patches = routing.patch_experts(3)
    np.testing.assert_array_equal(patches.reshape(2, 9), routing.experts[:, 3, 1:, 0])
    # Half of the experts are in each group, and the better choice is in either.
    assert set(routing.experts[..., 0].ravel().tolist()) == {0, 1, 2, 3}
    _, record = model(images, return_routing=True)
    chosen = numpy(record.experts)[..., None] == np.arange(4)
    gates = (chosen * numpy(record.gates)[..., None]).sum(axis=2)
    found = np.take_along_axis(gates, routing.experts, axis=-1)
    np.testing.assert_allclose(routing.gates, found, atol=1e-6)
