"""What people do with a Keras model works, and gives what they would expect."""

import keras
import numpy as np
import pytest
from conftest import BACKEND, numpy, one_line, slow, tiny_images, tiny_model

from widenet_keras.training import optimizers

IMAGES, LABELS = tiny_images(4), np.array([0, 4, 2, 1])
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
FIT = {"batch_size": 4, "shuffle": False, "verbose": 0}


def quiet_model(kind="widenet", **fields):
    """Returns a model that draws nothing, with the weights of every other one."""
    keras.utils.set_random_seed(0)
    return tiny_model(kind, router_noise=0.0, dropout=0.0, **fields)


def assert_equal_weights(one, other, atol=0.0):
    for mine, yours in zip(one.weights, other.weights, strict=True):
        np.testing.assert_allclose(numpy(mine), numpy(yours), atol=atol)


# Inside another model


class Subclassed(keras.Model):
    def __init__(self, classifier):
        super().__init__()
        self.classifier = classifier

    def call(self, images, training=None):
        return self.classifier(images, training=training)


def sequential(classifier):
    return keras.Sequential([keras.layers.GaussianNoise(0.0), classifier])


def functional(classifier):
    inputs = keras.Input((12, 12, 3))
    outputs = classifier(keras.layers.RandomFlip("horizontal", 0)(inputs))
    # What is random in front is not in the comparison.
    model = keras.Model(inputs, keras.layers.Softmax()(outputs))
    model.get_layer(index=1).call = lambda images, training=None: images
    return model


# Graphs are traced or compiled for long.
IN_GRAPHS = BACKEND != "torch"
AROUND = [
    (sequential, None),
    slow(functional, None, when=IN_GRAPHS),
    slow(Subclassed, None, when=IN_GRAPHS),
]
if BACKEND == "tensorflow":
    AROUND.append(slow(sequential, True))


@pytest.mark.parametrize(("around", "jit_compile"), AROUND)
def test_a_model_around_a_classifier_adds_its_losses_once(around, jit_compile):
    fields = {"steps": 3, "balance_loss_weight": 20.0, "router_z_loss_weight": 1.0}
    alone, inside = (quiet_model(**fields) for _ in range(2))
    alone.compile(keras.optimizers.SGD(1e-3))
    data = {"validation_data": (IMAGES, LABELS), **FIT}
    expected = alone.fit(IMAGES, LABELS, **data).history
    assert expected["loss"][0] > expected["task_loss"][0] + 10
    model = around(inside)
    loss = keras.losses.SparseCategoricalCrossentropy(around is not functional)
    how = {} if jit_compile is None else {"jit_compile": jit_compile}
    model.compile(keras.optimizers.SGD(1e-3), loss, **how)
    found = model.fit(IMAGES, LABELS, **data).history
    for name in ("loss", "val_loss"):
        assert found[name][0] == pytest.approx(expected[name][0], rel=1e-5)
    assert_equal_weights(inside, alone, atol=1e-6)
    # What was added there is not added again here.
    for one in (inside, alone):
        one.compile(keras.optimizers.SGD(1e-3))
    found, expected = (
        one.fit(IMAGES, LABELS, **FIT).history["loss"] for one in (inside, alone)
    )
    assert found == pytest.approx(expected, rel=1e-5)


# Freezing


OPTIMIZERS = {
    "adamw": lambda: optimizers.AdamW(1e-2, rates={"head": 0.5}),
    "lamb with average": lambda: optimizers.Lamb(1e-2, use_ema=True),
    "sgd": lambda: keras.optimizers.SGD(1e-2, momentum=0.9),
    "nadam, clipped": lambda: keras.optimizers.Nadam(1e-2, global_clipnorm=1.0),
    "accumulated": lambda: optimizers.SGD(1e-2, gradient_accumulation_steps=2),
    "scaled": lambda: keras.optimizers.LossScaleOptimizer(
        keras.optimizers.Adam(1e-2), initial_scale=2.0
    ),
}


@pytest.mark.parametrize(
    ("name", "frozen"),
    [
        slow(name, frozen, when=IN_GRAPHS and (name, frozen) != ("adamw", False))
        for name in OPTIMIZERS
        for frozen in (False, True)
    ],
)
def test_freezing_between_compile_and_fit_is_as_before_compile(name, frozen):
    def trained(late):
        model = quiet_model("vit", steps=1)
        model.encoder.trainable = late == frozen
        model.compile(OPTIMIZERS[name](), LOSS)
        model.encoder.trainable = not frozen
        model.fit(IMAGES, LABELS, epochs=2, **FIT)
        return model

    assert_equal_weights(trained(late=True), trained(late=False))


def test_what_an_optimizer_knows_of_the_others_stays():
    model = quiet_model("vit", steps=1)
    model.compile(optimizer := optimizers.AdamW(1e-2, use_ema=True))
    model.fit(IMAGES, LABELS, **FIT)
    before = {each.path: numpy(each) for each in optimizer.variables}
    start = model.encoder.get_weights()
    model.encoder.trainable = False
    model.fit(IMAGES, LABELS, **FIT)
    for one, other in zip(start, model.encoder.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert model.optimizer is optimizer
    after = {each.path: numpy(each) for each in optimizer.variables}
    assert set(after) < set(before)
    assert int(optimizer.iterations) == 2
    model.encoder.trainable = True
    model.fit(IMAGES, LABELS, **FIT)
    assert {each.path for each in optimizer.variables} == set(before)
    moved = [
        (one != other).any()
        for one, other in zip(start, model.encoder.get_weights(), strict=True)
    ]
    assert all(moved)


def test_nothing_to_train_is_said():
    model = quiet_model("vit", steps=1)
    model.compile("sgd")
    model.trainable = False
    with pytest.raises(ValueError, match="no weight is trainable") as error:
        model.fit(IMAGES, LABELS, **FIT)
    one_line(error)
    model.evaluate(IMAGES, LABELS, verbose=0)
