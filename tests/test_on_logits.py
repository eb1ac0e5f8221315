"""Losses and metrics read the logits that the models return, or are refused."""

import functools

import keras
import numpy as np
import pytest
from conftest import one_line, tiny_images, tiny_model

import widenet_keras
from widenet_keras.training.on_logits import (
    labels_kind,
    loss_on_logits,
    metrics_on_logits,
)

LABELS = np.array([0, 4, 2, 1])
SHARES = np.eye(5, dtype="float32")[LABELS]
LOGITS = np.random.default_rng(0).normal(size=(4, 5)).astype("float32") * 3
SPARSE = "sparse_categorical_crossentropy"


def softmax(x):
    odds = np.exp(x - x.max(-1, keepdims=True))
    return odds / odds.sum(-1, keepdims=True)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def value(loss, labels, logits=LOGITS):
    return float(keras.ops.mean(loss(labels, keras.ops.convert_to_tensor(logits))))


@pytest.mark.parametrize(
    "given",
    [
        "auto",
        SPARSE,
        "SparseCategoricalCrossentropy",
        keras.losses.sparse_categorical_crossentropy,
        keras.losses.SparseCategoricalCrossentropy,
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    ],
    ids=["auto", "name", "class name", "function", "class", "instance"],
)
def test_every_way_to_say_the_same_loss(given):
    expected = -np.log(softmax(LOGITS)[range(4), LABELS]).mean()
    [in_a_list] = loss_on_logits([given])
    for loss in (loss_on_logits(given), in_a_list):
        assert value(loss, LABELS) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("name", "labels", "odds"),
    [
        ("categorical_crossentropy", SHARES, softmax),
        ("categorical_focal_crossentropy", SHARES, softmax),
        ("binary_crossentropy", SHARES, sigmoid),
        ("binary_focal_crossentropy", SHARES, sigmoid),
    ],
)
def test_other_cross_entropies(name, labels, odds):
    """As Keras has them of probabilities."""
    expected = value(keras.losses.get(name), labels, odds(LOGITS))
    camel = "".join(part.capitalize() for part in name.split("_"))
    for given in (name, camel, getattr(keras.losses, name)):
        assert value(loss_on_logits(given), labels) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    "given",
    [
        "kl_divergence",
        "KLDivergence",
        keras.losses.Dice(),
        keras.losses.Dice,
        keras.losses.kl_divergence,
        functools.partial(keras.losses.kl_divergence),
    ],
    ids=["name", "class name", "instance", "class", "function", "partial"],
)
def test_losses_without_a_form_for_logits(given):
    with pytest.raises(ValueError, match="reads probabilities") as error:
        tiny_model("vit", steps=1).compile(loss=given)
    assert "from_logits" in one_line(error)


def test_a_partial_says_that_it_reads_logits():
    function = keras.losses.categorical_crossentropy
    right = functools.partial(function, label_smoothing=0.1, from_logits=True)
    assert loss_on_logits(right) is metrics_on_logits(right, None) is right
    wrong = functools.partial(function, label_smoothing=0.1)
    for refuse in (loss_on_logits, lambda given: metrics_on_logits([given], None)):
        with pytest.raises(ValueError, match="from_logits=True") as error:
            refuse(wrong)
        assert "categorical_crossentropy" in one_line(error)


def test_a_class_of_ones_own_is_made_as_keras_makes_it():
    class Own(keras.losses.CategoricalCrossentropy):
        def __init__(self, from_logits=True, **options):
            super().__init__(from_logits=from_logits, **options)

    made = loss_on_logits(Own)
    assert type(made) is Own
    assert labels_kind(made) == "shares"


def test_what_is_no_cross_entropy_stays():
    def own(labels, logits):
        return keras.ops.mean(logits)

    for loss in ("mse", own, keras.losses.Huber(), None):
        assert loss_on_logits(loss) is loss


# Metrics


def measured(metric, labels, logits=LOGITS, loss="binary_crossentropy"):
    [metric] = metrics_on_logits([metric], loss_on_logits(loss))
    metric.update_state(labels, keras.ops.convert_to_tensor(logits))
    return float(metric.result())


def test_accuracy_of_several_labels_counts_every_label():
    expected = ((LOGITS > 0) == (SHARES > 0.5)).mean()
    for name in ("accuracy", "acc", "binary_accuracy", "BinaryAccuracy"):
        assert measured(name, SHARES) == pytest.approx(expected)
    [auto] = metrics_on_logits("auto", loss_on_logits("binary_crossentropy"))
    assert auto.name == "accuracy"
    assert measured(auto, SHARES) == pytest.approx(expected)


def test_accuracy_of_classes():
    expected = (LOGITS.argmax(-1) == LABELS).mean()
    assert measured("accuracy", LABELS, loss="auto") == pytest.approx(expected)
    shares = measured("accuracy", SHARES, loss="categorical_crossentropy")
    assert shares == pytest.approx(expected)


def test_rates_and_areas():
    found, true = LOGITS > 0, SHARES > 0.5
    precision = (found & true).sum() / found.sum()
    recall = (found & true).sum() / true.sum()
    for given in ("Precision", keras.metrics.Precision):
        assert measured(given, SHARES) == pytest.approx(precision)
    assert measured("recall", SHARES) == pytest.approx(recall)
    area = keras.metrics.AUC()
    area.update_state(SHARES, keras.ops.convert_to_tensor(sigmoid(LOGITS)))
    for given in ("AUC", keras.metrics.AUC):
        assert measured(given, SHARES) == pytest.approx(float(area.result()))
    entropy = -np.log(softmax(LOGITS)[range(4), LABELS]).mean()
    for name in (SPARSE, "crossentropy", "ce"):
        assert measured(name, LABELS, loss="auto") == pytest.approx(entropy, rel=1e-5)
    focal = measured("ce", SHARES, loss="categorical_focal_crossentropy")
    assert focal == pytest.approx(entropy, rel=1e-5)


def test_a_loss_that_does_not_say_which_cross_entropy():
    with pytest.raises(ValueError, match="which cross-entropy") as error:
        metrics_on_logits("ce", loss_on_logits("mse"))
    assert SPARSE in one_line(error)


@pytest.mark.parametrize(
    ("metric", "piece"),
    [
        (keras.metrics.AUC, "from_logits=True"),
        (keras.metrics.BinaryCrossentropy, "from_logits=True"),
        (keras.metrics.Precision, "thresholds=0.0"),
        (lambda: keras.metrics.Recall(thresholds=[0.3, 0.7]), "thresholds=0.0"),
        (keras.metrics.BinaryAccuracy, "threshold=0.0"),
        (lambda: keras.metrics.F1Score(threshold=0.5), "threshold=0.0"),
        (lambda: keras.metrics.SensitivityAtSpecificity(0.5), "reads probabilities"),
        (lambda: "kl_divergence", "reads probabilities"),
        (lambda: keras.metrics.KLDivergence, "reads probabilities"),
    ],
)
def test_metrics_that_would_read_probabilities(metric, piece):
    with pytest.raises(ValueError, match="metrics: ") as error:
        tiny_model("vit", steps=1).compile(metrics=[metric()])
    assert piece in one_line(error)


def test_metrics_that_are_right_stay():
    right = [
        keras.metrics.AUC(from_logits=True),
        keras.metrics.Precision(thresholds=0.0),
        keras.metrics.BinaryAccuracy(threshold=0.0),
        keras.metrics.F1Score(),
        # The best of an image, whatever their logits.
        keras.metrics.Recall(top_k=2),
        keras.metrics.SparseTopKCategoricalAccuracy(3),
    ]
    assert metrics_on_logits(right, loss_on_logits("auto")) == right


# Labels follow the loss


@pytest.mark.parametrize(
    ("loss", "kind"),
    [
        ("auto", "classes"),
        ("categorical_focal_crossentropy", "shares"),
        ("binary_crossentropy", "yes or no"),
        ("mse", "any"),
        ([SPARSE], "classes"),
    ],
)
def test_what_labels_a_loss_takes(loss, kind):
    assert labels_kind(loss_on_logits(loss)) == kind


@pytest.mark.parametrize(
    ("loss", "labels", "piece"),
    [
        ("auto", SHARES, "use loss='categorical_crossentropy'"),
        ("auto", LABELS + 0.5, "whole numbers and 0.5 is none"),
        ("categorical_crossentropy", LABELS, "sparse_categorical_crossentropy"),
        ("categorical_crossentropy", SHARES * 2, "run from 0 to 2"),
        ("binary_crossentropy", LABELS, "are one number per image"),
        ("binary_crossentropy", SHARES - 1, "run from -1 to 0"),
        ("mse", SHARES * np.nan, "no numbers"),
    ],
)
def test_labels_that_do_not_fit_the_loss(loss, labels, piece):
    model = tiny_model("vit", steps=1)
    model.compile("sgd", loss, run_eagerly=True)
    for use in (model.fit, model.evaluate):
        with pytest.raises(ValueError, match=r"labels|Labels") as error:
            use(tiny_images(), labels, verbose=0)
        assert piece in one_line(error)


@pytest.mark.parametrize(
    ("loss", "labels", "fields"),
    [
        ("binary_crossentropy", SHARES, {}),
        ("binary_crossentropy", np.array([0, 1, 1, 0]), {"num_classes": 1}),
        ("categorical_crossentropy", SHARES * 0.9 + 0.02, {}),
        ("mse", np.array([3.5, -2.0, 0.1, 7.0]), {"num_classes": 1}),
    ],
)
def test_other_kinds_of_labels_train(loss, labels, fields):
    model = tiny_model("vit", steps=1, **fields)
    model.compile("sgd", loss, metrics=None if loss == "mse" else "auto")
    history = model.fit(tiny_images(), labels, verbose=0).history
    assert np.isfinite(history["loss"][0])


def test_before_compile_keras_says_what_to_do():
    for name in ("fit", "evaluate"):
        with pytest.raises(ValueError, match=r"You must call `compile\(\)` before"):
            getattr(tiny_model("vit", steps=1), name)(tiny_images(), LABELS)


def test_a_file_with_a_metric_that_is_refused_today_opens(tmp_path, monkeypatch):
    model = tiny_model("vit", steps=1)
    module = "widenet_keras.training.image_classifier.metrics_on_logits"
    with monkeypatch.context() as patched:
        patched.setattr(module, lambda metrics, loss: metrics)
        model.compile("sgd", metrics=[keras.metrics.AUC()])
        model.save(tmp_path / "model.keras")
    with pytest.warns(UserWarning, match="without its loss and metrics: metrics: AUC"):
        again = widenet_keras.load_model(tmp_path / "model.keras")
    for one, other in zip(again.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert again.loss is None
