"""What happens to an optimizer between `compile` and the end of `fit`, and after it."""

import keras
import numpy as np
import pytest
from conftest import BACKEND, RUN_EAGERLY, numpy, one_line, tiny_images, tiny_model

from widenet_keras.optimizers.optimization import Optimization
from widenet_keras.runs.averages import AveragedEvaluation, averaged_weights
from widenet_keras.runs.run import Run

IMAGES, LABELS = tiny_images(4), np.array([0, 1, 2, 3])
SGD, Scaled = keras.optimizers.SGD, keras.optimizers.LossScaleOptimizer
# Keras puts the scaling around an optimizer by itself; JAX has no halves on CPUs.
HALF = "float32" if BACKEND == "jax" else "mixed_float16"


def made(optimizer, dtype=None, **fields):
    keras.utils.set_random_seed(0)
    fields = {"dropout": 0.0, "steps": 1, "dtype": dtype, **fields}
    model = tiny_model("vit", **fields)
    if dtype == HALF == "float32":
        optimizer = Scaled(keras.optimizers.get(optimizer))
    model.compile(optimizer, run_eagerly=RUN_EAGERLY)
    return model


def values(model):
    return [numpy(weight).copy() for weight in model.weights]


def assert_same(found, expected):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


class Ends(keras.callbacks.Callback):
    """Fails at one of the moments that callbacks see, or ends the training there."""

    def __init__(self, moment, error=True):
        super().__init__()
        setattr(self, moment, self.end)
        self.error = error

    def end(self, *given, **more):
        self.model.stop_training = True
        if self.error:
            raise RuntimeError("there is no more memory")


def fit(model, *callbacks, **options):
    options = {"epochs": 1, "batch_size": 2, "shuffle": False, "verbose": 0, **options}
    return model.fit(IMAGES, LABELS, callbacks=[*callbacks], **options)


@pytest.mark.parametrize("dtype", [None, HALF])
def test_weights_stay_where_no_update_was_made(dtype):
    """Keras makes the weights their average then, which is 0 before an update."""
    model = made(SGD(0.1, use_ema=True), dtype)
    for weight in model.trainable_weights:
        weight.assign(weight + 0.5)
    before = values(model)
    with pytest.raises(RuntimeError, match="no more memory"):
        fit(model, Ends("on_train_batch_begin"))
    assert_same(values(model), before)
    fit(model, initial_epoch=1)
    assert_same(values(model), before)
    with averaged_weights(model):
        assert_same(values(model), before)
    fit(model)
    assert np.isfinite(fit(model).history["loss"][0])


def test_an_evaluation_that_fails_leaves_the_weights():
    model = made(SGD(0.1, use_ema=True))
    # Before the first update the average is the weights.
    fit(model)
    own = values(model)
    for average in averages_of(model.optimizer):
        average.assign(average + 1.0)
    how = {"batch_size": 2, "verbose": 0}
    callbacks = [AveragedEvaluation(), Ends("on_test_batch_end")]
    with pytest.raises(RuntimeError, match="no more memory"):
        model.evaluate(IMAGES, LABELS, callbacks=callbacks, **how)
    assert_same(values(model), own)
    apart = model.evaluate(IMAGES, LABELS, callbacks=callbacks[:1], **how)
    assert_same(values(model), own)
    assert apart != model.evaluate(IMAGES, LABELS, **how)


def averages_of(optimizer):
    return optimizer._model_variables_moving_average


def test_scaled_losses_have_an_average_too(tmp_path):
    model = made(SGD(0.1, use_ema=True, ema_momentum=0.5), HALF)
    assert isinstance(model.optimizer, Scaled)
    kinds = [type(each) for each in Run(tmp_path, {}).callbacks(model, 2)]
    assert AveragedEvaluation in kinds
    plain = model.optimizer.inner_optimizer
    # As after an update that has not overflowed.
    plain.iterations.assign(1)
    own = values(model)
    for weight, average in zip(model.weights, averages_of(plain), strict=True):
        average.assign(weight + 1.0)
    with averaged_weights(model):
        found = values(model)
    for one, other in zip(found, own, strict=True):
        np.testing.assert_allclose(one, other + 1.0, rtol=1e-6)
    assert_same(values(model), own)


def test_an_optimizer_that_is_given_again_trains_what_was_unfrozen():
    model = made("adam")
    model.frozen = ("embedding", "core", "norms")
    model.compile("adam", run_eagerly=RUN_EAGERLY)
    fit(model)
    model.frozen = ()
    before = values(model)
    model.compile(model.optimizer, run_eagerly=RUN_EAGERLY)
    fit(model)
    for weight, old in zip(model.trainable_weights, before, strict=True):
        assert (numpy(weight) != old).any(), weight.path


def test_an_optimizer_of_another_model_is_refused():
    model = made("adam")
    with pytest.raises(ValueError, match="Adam trains another model") as error:
        made(model.optimizer)
    one_line(error)


def run_of(folder, optimizer, *callbacks, epochs=1, steps=2, before=None, **more):
    """Trains to an epoch, from where the run in a folder is; returns model and run."""
    model = made(optimizer, **more)
    if before:
        before(model)
    run = Run(folder, {})
    done = run.restore(model, epochs, steps)
    callbacks = [*run.callbacks(model, 2), *callbacks]
    fit(model, *callbacks, epochs=epochs, initial_epoch=done.epochs)
    return model, run


def rate_of(model):
    return float(numpy(model.optimizer.learning_rate))


def test_a_run_goes_on_with_the_rate_that_a_callback_left(tmp_path):
    halved = keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2)
    run_of(tmp_path, SGD(0.5), halved)
    model = made(SGD(0.5))
    Run(tmp_path, {}).restore(model, 2, 2)
    assert rate_of(model) == 0.25
    with pytest.raises(ValueError, match=r"learning_rate=0\.25 and this run has 0\.4"):
        Run(tmp_path, {}).restore(made(SGD(0.4)), 2, 2)
    model, _ = run_of(tmp_path, SGD(0.5), halved, epochs=2)
    assert rate_of(model) == 0.125
    # What was loaded begins with what it had, as does the run that trained it.
    Run(tmp_path, {}).restore(model, 2, 2)
    Run(tmp_path, {}).restore(made(SGD(0.125)), 2, 2)


def test_a_run_goes_on_with_what_was_frozen_after_compile(tmp_path):
    def freeze(model):
        model.frozen = ("core",)

    run_of(tmp_path, "adam", before=freeze)
    _, run = run_of(tmp_path, "adam", before=freeze, epochs=2)
    assert run.checkpoints.progress.epochs == 2


def test_a_run_in_half_precision_may_become_longer(tmp_path):
    def lamb(epochs):
        return Optimization(optimizer="lamb", warmup_epochs=0).build(2 * epochs, 2)

    run_of(tmp_path, lamb(1), dtype=HALF)
    # Keras counts the optimizers of a process in their names.
    _, run = run_of(tmp_path, lamb(2), dtype=HALF, epochs=2)
    assert run.checkpoints.progress.epochs == 2
    with pytest.raises(ValueError, match="optimizer='Lamb' and this run has 'SGD'"):
        Run(tmp_path, {}).restore(made("sgd", dtype=HALF), 2, 2)


def test_an_epoch_that_a_callback_ended_is_not_one_to_go_on_from(tmp_path):
    model = made("sgd")
    model.compile("sgd", steps_per_execution=2)
    with pytest.raises(ValueError, match="steps_per_execution=2 does not divide the 3"):
        Run(tmp_path, {}).restore(model, 1, 3)
    run_of(tmp_path, "sgd")
    _, run = run_of(tmp_path, "sgd", Ends("on_train_batch_end", error=False), epochs=2)
    assert run.checkpoints.progress == (1, 2, None)
    _, run = run_of(tmp_path, "sgd", epochs=2)
    assert run.checkpoints.progress == (2, 4, None)
