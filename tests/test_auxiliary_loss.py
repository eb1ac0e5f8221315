"""The auxiliary loss and its gradient against NumPy, through many shared steps.

A shared layer that adds its loss once per step is counted once on JAX and loses
its gradient under recomputation on TensorFlow; this is the test that would see.
"""

import keras
import numpy as np
import pytest
from conftest import BACKEND, numpy, slow, tiny_images, tiny_model
from oracle import model_forward, model_losses, weights_by_path

from widenet_keras.layers import MixtureOfExperts

EPSILON = 1e-5

CASES = {
    "12 shared steps": ("widenet", {"steps": 12}),
    "cycle": ("widenet", {"steps": 4, "sharing": "cycle", "unique_blocks": 2}),
    "vit-moe": ("vit_moe", {}),
    "grouped, in groups of images": (
        "widenet",
        {"router": "grouped_top_1", "images_per_group": 2},
    ),
    "z-loss": ("widenet", {"router_z_loss_weight": 0.3}),
    "z-loss, grouped": (
        "widenet",
        {"router_z_loss_weight": 0.3, "router": "grouped_top_1"},
    ),
}


def one_step(model, images, labels):
    """Takes one SGD step of rate 1; returns (logs, weights before, step taken)."""
    before = weights_by_path(model)
    model.compile(keras.optimizers.SGD(1.0), jit_compile=BACKEND == "jax")
    # Unshuffled, since the groups of images depend on the order.
    history = model.fit(
        images, labels, batch_size=len(images), shuffle=False, verbose=0
    )
    after = weights_by_path(model)
    logs = {name: values[-1] for name, values in history.history.items()}
    return logs, before, {name: before[name] - after[name] for name in before}


def z_loss_of(weights, config, images, choices=None):
    """Returns the z-loss summed over the steps."""
    _, oracles = model_forward(weights, config, images, True, choices)
    return sum(each.z_loss() for each in oracles)


def slope(before, name, direction, loss):
    """Central difference of `loss` along a direction of one weight."""

    def at(step):
        return loss({**before, name: before[name] + step * direction})

    return (at(EPSILON) - at(-EPSILON)) / (2 * EPSILON)


@pytest.mark.parametrize("case", [slow(c, when=c == "12 shared steps") for c in CASES])
def test_train_step_descends_the_hand_made_loss(case):
    kind, fields = CASES[case]
    weight = 0.5
    model = tiny_model(
        kind, router_noise=0.0, dropout=0.0, balance_loss_weight=weight, **fields
    )
    images, labels = tiny_images(3), np.array([0, 4, 2])
    logs, before, gradients = one_step(model, images, labels)
    config = model.config
    task, balance, choices = model_losses(before, config, images, labels)
    # The loss is the task loss plus weight * the SUM over the steps.
    assert logs["task_loss"] == pytest.approx(task, rel=1e-5)
    assert logs["balance_loss"] == pytest.approx(balance, rel=1e-5)
    z_loss = z_loss_of(before, config, images)
    total = task + weight * balance + config.router_z_loss_weight * z_loss
    assert logs["loss"] == pytest.approx(total, rel=1e-5)
    dropped = np.mean([choice["dropped"] for choice in choices])
    assert logs["dropped_fraction"] == pytest.approx(dropped, abs=1e-6)

    def loss(weights):
        # Who goes where, and f, are constants for the gradient.
        task, balance, _ = model_losses(weights, config, images, labels, choices)
        total = task + weight * balance
        if config.router_z_loss_weight:
            z_loss = z_loss_of(weights, config, images, choices)
            total += config.router_z_loss_weight * z_loss
        return total

    random = np.random.default_rng(0)
    for name, gradient in gradients.items():
        direction = random.normal(size=gradient.shape)
        expected = slope(before, name, direction, loss)
        assert (gradient * direction).sum() == pytest.approx(
            expected, rel=2e-4, abs=2e-5
        ), name


def test_balance_loss_alone_reaches_the_router():
    # Without a task gradient (labels of weight zero) only routing is trained.
    model = tiny_model(router_noise=0.0, dropout=0.0, balance_loss_weight=1.0, steps=12)
    images, labels = tiny_images(3), np.zeros(3, "int32")
    before = weights_by_path(model)
    model.compile(keras.optimizers.SGD(1.0))
    model.fit(images, labels, sample_weight=np.zeros(3), batch_size=3, verbose=0)
    after = weights_by_path(model)
    _, _, choices = model_losses(before, model.config, images, labels)

    def loss(weights):
        return model_losses(weights, model.config, images, labels, choices)[1]

    name = "encoder/block_0/feed_forward/router/kernel"
    step = before[name] - after[name]
    for row, column in np.ndindex(*step.shape):
        direction = np.zeros_like(step)
        direction[row, column] = 1.0
        expected = slope(before, name, direction, loss)
        assert step[row, column] == pytest.approx(expected, rel=2e-4, abs=2e-5)


def test_z_loss_is_added_with_its_weight():
    model = tiny_model(router_noise=0.0, dropout=0.0, router_z_loss_weight=0.1)
    images = tiny_images(3)
    expected = z_loss_of(weights_by_path(model), model.config, images)
    logs, _, _ = one_step(model, images, np.zeros(3, "int32"))
    assert logs["router_z_loss"] == pytest.approx(expected, rel=1e-5)
    total = logs["task_loss"] + 0.01 * logs["balance_loss"] + 0.1 * expected
    assert logs["loss"] == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize("add_losses", [True, False])
def test_lone_layer_adds_its_loss_by_itself(add_losses):
    inputs = keras.Input((6, 8))
    layer = MixtureOfExperts(
        4, 5, router_noise=0.0, balance_loss_weight=3.0, add_losses=add_losses
    )
    model = keras.Model(inputs, layer(inputs))
    x = np.random.default_rng(0).normal(size=(4, 6, 8)).astype("float32")
    y, record = layer.routed_experts(keras.ops.convert_to_tensor(x), training=True)
    # Kept equal to the output, the task loss is zero.
    model.compile(keras.optimizers.SGD(0.0), loss="mse")
    history = model.fit(x, numpy(y), batch_size=4, verbose=0)
    expected = 3.0 * float(numpy(record.balance_loss)) if add_losses else 0.0
    assert history.history["loss"][0] == pytest.approx(expected, rel=1e-5, abs=1e-6)
