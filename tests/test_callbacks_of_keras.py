"""Keras' own callbacks do with these models what they do with others."""

import importlib.util

import keras
import numpy as np
import pytest
from conftest import RUN_EAGERLY, numpy, tiny_images, tiny_model

import widenet_keras

IMAGES, LABELS = tiny_images(4), np.array([0, 4, 2, 1])
callbacks = keras.callbacks
# It writes through TensorFlow, on every backend.
HAS_BOARD = importlib.util.find_spec("tensorboard") is not None


def model_of(**options):
    keras.utils.set_random_seed(0)
    model = tiny_model("vit", steps=1, dropout=0.0)
    optimizer = keras.optimizers.Adam(1e-2, **options)
    model.compile(optimizer, run_eagerly=RUN_EAGERLY)
    return model


def fit(model, *each, epochs=3, **options):
    options = {"validation_data": (IMAGES, LABELS), "verbose": 0, **options}
    how = {"batch_size": 4, "shuffle": False, "epochs": epochs}
    return model.fit(IMAGES, LABELS, callbacks=list(each), **how, **options).history


class Spoil(callbacks.Callback):
    """Spoils the weights before an epoch, or stops the training there."""

    def __init__(self, epoch, error=None):
        super().__init__()
        self.epoch, self.error = epoch, error

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.epoch:
            if self.error:
                raise self.error
            for weight in self.model.trainable_weights:
                weight.assign(weight * 30.0)


def test_the_best_weights_the_rate_and_what_is_written(tmp_path):
    """One training that gets worse in its third epoch."""
    model = model_of()
    best = tmp_path / "best.keras"
    weights = tmp_path / "{epoch}.weights.h5"
    board = [callbacks.TensorBoard(tmp_path / "logs")] if HAS_BOARD else []
    history = fit(
        model,
        Spoil(2),
        callbacks.ModelCheckpoint(best, monitor="val_loss", save_best_only=True),
        callbacks.ModelCheckpoint(weights, save_weights_only=True),
        callbacks.ReduceLROnPlateau("val_loss", factor=0.5, patience=1, min_delta=0),
        *board,
        callbacks.EarlyStopping("val_loss", patience=2, restore_best_weights=True),
        epochs=9,
    )
    assert len(history["loss"]) == 4
    assert int(np.argmin(history["val_loss"])) == 1
    assert history["learning_rate"] == pytest.approx([0.01, 0.01, 0.01, 0.005])
    wanted = numpy(model(IMAGES))
    loss = model.evaluate(IMAGES, LABELS, verbose=0)[0]
    assert loss == pytest.approx(min(history["val_loss"]), rel=1e-5)
    saved = widenet_keras.load_model(best)
    np.testing.assert_allclose(numpy(saved(IMAGES)), wanted, atol=1e-5)
    other = model_of()
    other.load_weights(tmp_path / "2.weights.h5")
    np.testing.assert_allclose(numpy(other(IMAGES)), wanted, atol=1e-5)
    if board:
        assert list((tmp_path / "logs").rglob("events.*"))


def test_a_backup_goes_on_where_a_crash_was(tmp_path):
    """With a moving average too; the callback that swaps it in comes after."""

    def kept():
        backup = callbacks.BackupAndRestore(tmp_path / "backup")
        return backup, callbacks.SwapEMAWeights()

    without = model_of(use_ema=True)
    fit(without, callbacks.SwapEMAWeights())
    crashed = model_of(use_ema=True)
    with pytest.raises(OSError, match="power"):
        fit(crashed, *kept(), Spoil(1, OSError("power")))
    fresh = model_of(use_ema=True)
    history = fit(fresh, *kept())
    assert len(history["loss"]) == 2
    for one, other in zip(without.weights, fresh.weights, strict=True):
        np.testing.assert_allclose(numpy(one), numpy(other), atol=1e-6)
    assert int(fresh.optimizer.iterations) == 3


def test_a_schedule_and_an_end_at_nan():
    model = model_of()
    rates = callbacks.LearningRateScheduler(lambda epoch: 0.1 / (epoch + 1))
    history = fit(model, rates, epochs=2)
    assert history["learning_rate"] == pytest.approx([0.1, 0.05])
    model.head.norm.gamma.assign(model.head.norm.gamma * np.nan)
    history = fit(model, callbacks.TerminateOnNaN(), epochs=3)
    assert len(history["loss"]) == 1
