"""Terms of the objective: a teacher's answers, and consistency of two passes."""

import json

import keras
import numpy as np
import pytest
from conftest import (
    BACKEND,
    numpy,
    one_line,
    slow_on,
    tiny_config,
    tiny_images,
    tiny_model,
)
from gradients import value_and_gradients
from oracle import model_forward, model_losses, softmax, weights_by_path

import widenet_keras
from widenet_keras import Consistency, Distillation
from widenet_keras.models.description import describe
from widenet_keras.training.terms import Forward
from widenet_keras.utils.roles import role_of

IMAGES, LABELS = tiny_images(12), np.arange(12) % 5
QUIET = {"dropout": 0.0, "router_noise": 0.0, "stochastic_depth": 0.0}
NOISY = {"dropout": 0.3, "router_noise": 0.0, "stochastic_depth": 0.0}
RANDOM = np.random.default_rng(3)
WANTED, FOUND = (RANDOM.normal(size=(6, 5)).astype("float32") for _ in range(2))
WEIGHTS = np.array([0.0, 1.0, 2.0, 0.5, 0.0, 3.0], "float32")
# What a term hears of the images does not matter to it here.
NO_IMAGES = np.zeros((6, 12, 12, 3), "float32")


def rows(function, values):
    return np.array([function(row) for row in np.asarray(values, "float64")])


def divergences(target, logits):
    """KL of every row, in NumPy."""
    p, q = rows(softmax, target), rows(softmax, logits)
    return (p * np.log(p / q)).sum(-1)


def fitted(model, *, images=IMAGES, labels=LABELS, **options):
    """Trains for an epoch of batches of four; returns what it reports."""
    options = {"batch_size": 4, "shuffle": False, "verbose": 0, **options}
    history = model.fit(images, labels, **options).history
    return {name: values[-1] for name, values in history.items()}


def values_of(model):
    return [numpy(variable).copy() for variable in model.variables]


def assert_equal(found, expected):
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.fixture(scope="module")
def teacher():
    return tiny_model("vit")


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["alike", "weighted"])
@pytest.mark.parametrize(
    ("kind", "temperature"), [("soft", 1.0), ("soft", 3.0), ("hard", 1.0)]
)
def test_distillation_is_that_of_numpy(teacher, kind, temperature, weights):
    term = Distillation(teacher, 0.7, temperature, kind)
    term.teacher = lambda images, training: keras.ops.convert_to_tensor(WANTED)
    student = keras.Variable(FOUND)

    def function():
        first = Forward(keras.ops.convert_to_tensor(student), ())
        return term(NO_IMAGES, weights, first, None)

    value, [gradient] = value_and_gradients(function, [student])
    q = rows(softmax, FOUND / temperature)
    p = rows(softmax, WANTED / temperature)
    losses = temperature**2 * divergences(WANTED / temperature, FOUND / temperature)
    if kind == "hard":
        p = np.eye(5)[WANTED.argmax(-1)]
        losses = -np.log((p * q).sum(-1))
    shares = np.ones(6) if weights is None else weights
    assert value == pytest.approx(0.7 * (shares * losses).mean(), rel=1e-5)
    expected = 0.7 * temperature * shares[:, None] * (q - p) / 6
    np.testing.assert_allclose(gradient, expected, atol=1e-6)


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["alike", "weighted"])
def test_consistency_is_symmetric_and_moves_both_sides(weights):
    sides = [keras.Variable(FOUND), keras.Variable(WANTED)]

    def function(order=(0, 1)):
        first, second = (
            Forward(keras.ops.convert_to_tensor(sides[i]), ()) for i in order
        )
        return Consistency(2.0)(NO_IMAGES, weights, first, lambda: second)

    value, gradients = value_and_gradients(function, sides)
    swapped, _ = value_and_gradients(lambda: function((1, 0)), sides)
    shares = np.ones(6) if weights is None else weights
    both = divergences(FOUND, WANTED) + divergences(WANTED, FOUND)
    assert value == pytest.approx((shares * both).mean(), rel=1e-5)
    assert swapped == pytest.approx(value, rel=1e-6)
    # What stands first in a divergence is a constant.
    p, q = (rows(softmax, each) for each in (FOUND, WANTED))
    expected = shares[:, None] * (p - q) / 6
    np.testing.assert_allclose(gradients[0], expected, atol=1e-6)
    np.testing.assert_allclose(gradients[1], -expected, atol=1e-6)


def same_everywhere(model, seed):
    """Gives a model weights that are those of every backend."""
    random = np.random.default_rng(seed)
    for weight in model.weights:
        weight.assign(random.normal(size=weight.shape, scale=0.3).astype("float32"))
    return model


THREE_BATCHES = {
    "loss": 1.206892,
    "task_loss": 1.752136,
    "distillation_loss": 0.0357207,
}


class Losses(keras.callbacks.Callback):
    """Keeps what is reported after every batch."""

    def on_train_begin(self, logs=None):
        self.kept = []

    def on_train_batch_end(self, batch, logs=None):
        self.kept.append({name: float(value) for name, value in logs.items()})


def test_three_batches_are_those_of_every_backend():
    model = same_everywhere(tiny_model(balance_loss_weight=0.3, **QUIET), 0)
    teacher = same_everywhere(tiny_model("vit"), 1)
    before, kept = values_of(teacher), Losses()
    flags = [layer.trainable for layer in teacher._flatten_layers()]
    weights = weights_by_path(model)
    terms = [Distillation(teacher, 0.7, 2.0), Consistency()]
    model.compile(keras.optimizers.SGD(0.5), terms=terms)
    logs = fitted(model, callbacks=[kept])
    # The first batch is that of NumPy.
    images, labels = IMAGES[:4], LABELS[:4]
    task, balance, _ = model_losses(weights, model.config, images, labels)
    logits, _ = model_forward(weights, model.config, images, True)
    wanted, _ = model_forward(weights_by_path(teacher), teacher.config, images)
    taught = 0.7 * 4 * divergences(wanted / 2, logits / 2).mean()
    first = kept.kept[0]
    assert first["task_loss"] == pytest.approx(task, rel=1e-5)
    assert first["distillation_loss"] == pytest.approx(taught, rel=1e-5)
    assert first["consistency_loss"] == pytest.approx(0.0, abs=1e-6)
    total = 0.3 * task + 0.3 * balance + taught
    assert first["loss"] == pytest.approx(total, rel=1e-5)
    # The mean of all three is what every backend has found.
    found = {name: logs[name] for name in THREE_BATCHES}
    assert found == pytest.approx(THREE_BATCHES, rel=2e-5)
    assert_equal(values_of(teacher), before)
    assert [layer.trainable for layer in teacher._flatten_layers()] == flags
    # A teacher that has changed is followed: it is no part of what was compiled.
    steps = model.train_function
    for variable in teacher.trainable_variables:
        variable.assign(variable * 0.0)
    model.optimizer.learning_rate = 0.0
    flat = fitted(model, images=images, labels=labels)["distillation_loss"]
    assert model.train_function is steps
    even = np.zeros((4, 5))
    logits = model.predict(images, verbose=0)
    again = 0.7 * 4 * divergences(even, logits / 2).mean()
    assert flat == pytest.approx(again, rel=1e-4)
    np.testing.assert_array_equal(numpy(teacher(images)), 0.0)
