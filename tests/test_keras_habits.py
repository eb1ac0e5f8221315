"""What people do with a Keras model works, and gives what they would expect."""

import keras
import numpy as np
import pytest
from conftest import (
    BACKEND,
    RUN_EAGERLY,
    numpy,
    one_line,
    slow,
    tiny_images,
    tiny_model,
)

from widenet_keras.layers import depth
from widenet_keras.models import WideNet
from widenet_keras.models.features import Features
from widenet_keras.optimizers import optimizers

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
    fields = {"balance_loss_weight": 20.0, "router_z_loss_weight": 1.0}
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
    if IN_GRAPHS:
        return
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
    optimizer = optimizers.AdamW(1e-2, use_ema=True)
    model.compile(optimizer, run_eagerly=RUN_EAGERLY)
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
    with pytest.raises(ValueError, match="has no trainable weight to train") as error:
        model.fit(IMAGES, LABELS, **FIT)
    one_line(error)
    model.evaluate(IMAGES, LABELS, verbose=0)


# Data in other forms


def losses(data, *more, **options):
    """Returns the loss of an epoch without shuffling, after one equal to it."""
    model = quiet_model("vit", steps=1)
    model.compile(keras.optimizers.SGD(1e-2), run_eagerly=RUN_EAGERLY)
    options = {"verbose": 0, "shuffle": False, **options}
    if not hasattr(data, "element_spec"):
        options["batch_size"] = 2
    return model.fit(data, *more, **options).history["loss"][0]


def test_lists_and_dicts_are_data():
    import tensorflow as tf

    def batches(tree):
        return tf.data.Dataset.from_tensor_slices(tree).batch(2)

    expected = losses(IMAGES, LABELS)
    assert losses(list(IMAGES), list(LABELS)) == expected
    assert losses(IMAGES.tolist(), LABELS.tolist()) == expected
    features = {"image": IMAGES, "label": LABELS, "file_name": list("abcd")}
    assert losses(batches(features)) == expected
    assert losses(batches((IMAGES, {"label": LABELS}))) == expected
    weights = [0.5, 1.0, 2.0, 0.0]
    weighted = losses(IMAGES, LABELS, sample_weight=np.array(weights))
    assert losses(IMAGES, LABELS, sample_weight=weights) == weighted != expected
    model = quiet_model("vit", steps=1)
    logits = numpy(model(IMAGES))
    for data in (list(IMAGES), batches(features), batches({"image": IMAGES})):
        found = model.predict(data, batch_size=None, verbose=0)
        np.testing.assert_allclose(found, logits, atol=1e-5)


def test_shapes_that_a_data_set_does_not_tell():
    import tensorflow as tf

    def read(size):
        def one(i):
            return tiny_images(4, size)[i], LABELS[i]

        kinds = (tf.float32, tf.int64)
        data = tf.data.Dataset.range(4)
        return data.map(lambda i: tf.numpy_function(one, [i], kinds)).batch(2)

    assert losses(read(12)) == losses(IMAGES, LABELS)
    with pytest.raises(ValueError, match=r"have shape \[2 16 16 3\]") as error:
        losses(read(16))
    one_line(error)


def test_no_image_gives_no_logits():
    model = quiet_model()
    model.compile("sgd")
    none = IMAGES[:0]
    for found in (model(none), model(none, training=True), model.predict(none)):
        assert tuple(found.shape) == (0, 5)
    assert model.predict_on_batch(none).shape == model.predict([]).shape == (0, 5)
    for use in (model.fit, model.evaluate, model.train_on_batch, model.test_on_batch):
        with pytest.raises(ValueError, match="There are no images") as error:
            use(none, LABELS[:0])
        one_line(error)


def test_an_error_of_the_first_batch_costs_no_weights():
    class Broken(keras.utils.PyDataset):
        num_batches = 2
        count = 0

        def __getitem__(self, index):
            # Keras looks at the first one before it trains.
            Broken.count += 1
            if Broken.count > 1:
                raise ValueError("the disk is gone")
            return IMAGES, LABELS

    model = quiet_model("vit", steps=1)
    model.compile("sgd", run_eagerly=True)
    start = model.get_weights()
    with pytest.raises(ValueError, match="the disk is gone"):
        model.fit(Broken(), verbose=0)
    for before, after in zip(start, model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


# Features and files


@pytest.mark.parametrize("kind", ["widenet", "vit"])
def test_features_are_what_the_head_computes_from(kind):
    model = quiet_model(kind)
    tokens = numpy(model.features(IMAGES))
    assert tokens.shape == (4, 10, 12)
    np.testing.assert_array_equal(tokens, numpy(model.features(IMAGES, step=1)))
    assert np.abs(tokens - numpy(model.features(IMAGES, step=0))).max() > 0.1
    logits = numpy(model.head(tokens))
    np.testing.assert_allclose(logits, numpy(model(IMAGES)), atol=1e-5)
    pooled = numpy(model.features(IMAGES, pooled=True))
    normal = numpy(model.head.norm(tokens))
    wanted = normal[:, 0] if kind == "vit" else normal.mean(axis=1)
    np.testing.assert_allclose(pooled, wanted, atol=1e-5)
    for wrong in ({"step": 2}, {"step": -1}, {"pooled": 1}):
        with pytest.raises(ValueError, match="features: ") as error:
            model.features(IMAGES, **wrong)
        one_line(error)


@pytest.mark.parametrize("sharing", ["all", "none"])
def test_features_of_a_step_take_no_step_behind_it(sharing, monkeypatch):
    model = quiet_model(steps=3, sharing=sharing, capacity_factor=None)
    taken, step = [], depth.step
    _, record, seen = model.encoder(model.embedding(IMAGES), look_at=range(3))
    monkeypatch.setattr(
        depth, "step", lambda *a, **k: (taken.append(1), step(*a, **k))[1]
    )
    for last in range(3):
        taken.clear()
        found = numpy(model.features(IMAGES, step=last))
        np.testing.assert_array_equal(found, numpy(seen.tokens[last]))
        assert len(taken) == last + 1
    # Nor are the losses of those steps added.
    layer = Features(model, step=1)
    layer(IMAGES, training=True)
    wanted = 0.01 * numpy(record.balance_loss)[:2].sum()
    np.testing.assert_allclose(numpy(layer.losses[0]), wanted, rtol=1e-6)


def test_a_model_on_features_trains_saves_and_loads(tmp_path):
    model = quiet_model(balance_loss_weight=20.0)
    inputs = keras.Input(model.config.image_shape)
    features = model.features(inputs, pooled=True)
    other = keras.Model(inputs, keras.layers.Dense(3)(features))
    found = other.predict(IMAGES, verbose=0)
    dense = other.layers[-1]
    wanted = dense(model.features(IMAGES, pooled=True))
    np.testing.assert_allclose(found, numpy(wanted), atol=1e-5)
    other.save(tmp_path / "other.keras")
    again = keras.saving.load_model(tmp_path / "other.keras")
    np.testing.assert_allclose(again.predict(IMAGES, verbose=0), found, atol=1e-6)
    if BACKEND == "tensorflow":
        import tensorflow as tf

        other.export(tmp_path / "saved_model", verbose=False)
        exported = tf.saved_model.load(str(tmp_path / "saved_model"))
        np.testing.assert_allclose(exported.serve(IMAGES), found, atol=1e-5)
    other.compile("sgd", LOSS, run_eagerly=RUN_EAGERLY)
    history = other.fit(IMAGES, LABELS % 3, **FIT).history
    assert set(history) == {"loss"}
    assert history["loss"][0] > 20


def test_features_of_a_network_and_of_images_of_any_size():
    model = quiet_model(balance_loss_weight=20.0)
    network = WideNet(model.config)
    features = Features(network)
    features(IMAGES, training=True)
    [loss] = features.losses
    assert float(numpy(loss)) > 20
    wanted = model.features(IMAGES).shape[1:]
    found = model.features(keras.Input((None, None, 3))).shape
    assert tuple(found) == (None, *wanted)


def test_a_summary_tells_all_shapes():
    lines = []
    tiny_model().summary(print_fn=lines.append)
    text = "\n".join(lines)
    assert "?" not in text
    assert text.count("(None, 10, 12)") == 3
    assert "(None, 5)" in text


def test_files_that_nothing_would_open(tmp_path):
    model = tiny_model("vit", steps=1)
    for call, piece in (
        (lambda: model.save(tmp_path / "m.h5"), "does not end in '.keras'"),
        (lambda: model.save(None), "the path is None"),
        (lambda: model.save_weights(tmp_path / "m.h5"), "'.weights.h5'"),
        (lambda: model.export(None), "the path is None"),
        (lambda: model.export(tmp_path / "m.keras"), "model.save(path)"),
        (lambda: model.export(tmp_path / "m", "onnx"), "widenet_keras.export"),
    ):
        with pytest.raises(ValueError, match=r"save: |export: ") as error:
            call()
        assert piece in one_line(error)
    assert not list(tmp_path.iterdir())
    if BACKEND == "tensorflow":
        import tensorflow as tf

        model.export(tmp_path / "saved_model", verbose=False)
        exported = tf.saved_model.load(str(tmp_path / "saved_model"))
        np.testing.assert_allclose(exported.serve(IMAGES), model(IMAGES), atol=1e-5)
