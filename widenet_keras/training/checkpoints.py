"""The last and the best state of a run, on disk, never half-written."""

import contextlib
import json
import math
import warnings
import zipfile
from pathlib import Path
from typing import NamedTuple

import keras

from widenet_keras.distribution.single import ONE_DEVICE
from widenet_keras.training.finite import what_is_not_finite
from widenet_keras.utils.checks import check_choice
from widenet_keras.utils.files import remove_leftovers, replaced_when_done
from widenet_keras.utils.plain_errors import first_line

_PROGRESS = "progress.json"  # inside the archive, so that one rename writes both


class Progress(NamedTuple):
    """How far a run has come.

    Attributes:
        epochs: Finished epochs; the `initial_epoch` of `fit`.
        batches: Finished batches; where the data go on.
        best: Best value of the monitored metric, or None.
    """

    epochs: int = 0
    batches: int = 0
    best: float | None = None


class Checkpoints(keras.callbacks.Callback):
    """Writes the state of a run after every epoch, so that a new process goes on.

    `last.keras` has all that a run is made of: weights, moving average,
    optimizer, random state and the position in the data. `best.keras` is the
    model of the best epoch for use: the averaged weights if there is a moving
    average, and no optimizer. Both open with `load_model` on any backend. A run
    that is killed and started again with the same settings ends with the same
    weights, since the data are a function of the batch's number:

    ```python
    checkpoints = Checkpoints("run/checkpoints")
    done = checkpoints.restore(model)
    model.fit(
        data.from_batch(done.batches),
        initial_epoch=done.epochs,
        steps_per_epoch=data.batches_per_epoch,
        callbacks=[..., checkpoints],
        ...
    )
    ```

    Stands last among the callbacks: what the others write for an epoch is then
    on disk before the epoch counts as done.

    In a job of several processes those save that the distribution names, and the
    files of the first one stay. The weights in them are whole, so that they open on
    any number of devices.

    Args:
        folder: Where the two files are.
        monitor: The metric that says what is best.
        mode: "max" or "min".
        distribution: `Distribution` of the job.
    """

    def __init__(
        self, folder, monitor="val_accuracy", mode="max", distribution=ONE_DEVICE
    ):
        super().__init__()
        check_choice("Checkpoints", "mode", mode, ("max", "min"))
        self.distribution = distribution
        self.found = Path(folder) / "last.keras"
        kept = distribution.own_folder(folder)
        self.last = kept / "last.keras"
        self.best = kept / "best.keras"
        self.monitor = monitor
        self.mode = mode
        self.progress = Progress()

    def restore(self, model):
        """Brings a compiled model to the state of `last.keras`, if there is one.

        Args:
            model: A compiled `ImageClassifier`, set up as the one that was saved.

        Returns:
            `Progress`, all zero in a fresh folder.

        Raises:
            ValueError: If the file is of another model or optimizer.
        """
        if self.distribution.is_chief:
            remove_leftovers(self.last.parent)
        if self.found.exists():
            self.progress = _load_state(model, self.found)
        self.distribution.check_agreed(self.found.parent, [*self.progress[:2]])
        return self.progress

    def on_train_batch_end(self, batch, logs=None):
        """Counts."""
        done = self.progress.batches + self.model.steps_per_execution
        self.progress = self.progress._replace(batches=done)

    def on_epoch_end(self, epoch, logs=None):
        """Writes `best.keras` if the epoch is the best, then `last.keras`."""
        logs = logs or {}
        if what_is_not_finite(self.model, logs):
            return
        self.progress = self.progress._replace(epochs=epoch + 1)
        self._keep_best(logs)
        with self.distribution.logical_weights(self.model), self.distribution.apart():
            if not self.distribution.saves:
                return
            with replaced_when_done(self.last) as fresh:
                self.model.save(fresh)
                with zipfile.ZipFile(fresh, "a") as archive:
                    content = {**self.progress._asdict(), "random": _random(self.model)}
                    archive.writestr(_PROGRESS, json.dumps(content))

    def _keep_best(self, logs):
        # Epochs without validation have no value.
        value = logs.get(self.monitor)
        if value is None or not math.isfinite(value):
            return
        best = self.progress.best
        if best is not None and (
            value <= best if self.mode == "max" else value >= best
        ):
            return
        self.progress = self.progress._replace(best=float(value))
        # The average is taken where its parts are, before they are gathered.
        with (
            averaged_weights(self.model),
            self.distribution.logical_weights(self.model),
            self.distribution.apart(),
        ):
            if self.distribution.saves:
                self.model.adapted().save(self.best)


class AveragedEvaluation(keras.callbacks.Callback):
    """Evaluates with the moving average of the weights, which an optimizer keeps.

    The weights are put aside as they are: Keras' `SwapEMAWeights` adds and
    subtracts them on TensorFlow, which leaves each a rounding error off.
    """

    def on_test_begin(self, logs=None):
        """Puts the average into the model."""
        self.swapped = contextlib.ExitStack()
        self.swapped.enter_context(averaged_weights(self.model))

    def on_test_end(self, logs=None):
        """Puts the weights back."""
        self.swapped.close()


@contextlib.contextmanager
def averaged_weights(model):
    """Context in which a model has the moving average of its weights, if any.

    Args:
        model: A compiled model; without `use_ema` nothing changes.
    """
    optimizer = model.optimizer
    if not getattr(optimizer, "use_ema", False):
        yield
        return
    weights = model.trainable_variables
    # Copied where they are, since a process may hold a part of a weight only.
    own = [keras.ops.copy(weight) for weight in weights]
    optimizer.finalize_variable_values(weights)
    # On JAX the two are one buffer now, which an evaluation would use up.
    model.unshare_buffers()
    try:
        yield
    finally:
        for weight, value in zip(weights, own, strict=True):
            weight.assign(value)


def _load_state(model, path):
    """Loads weights and optimizer; returns the `Progress`."""
    try:
        with zipfile.ZipFile(path) as archive:
            progress = json.loads(archive.read(_PROGRESS))
            random = progress.pop("random")
            progress = Progress(**progress)
            saved = json.loads(archive.read("config.json"))
    except (KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{path} is not a checkpoint of a run ({error}); remove it, or give "
            "another folder."
        ) from None
    _check_same(path, saved, model)
    with warnings.catch_warnings():
        # Keras only warns when it leaves the optimizer as it is.
        warnings.simplefilter("error", UserWarning)
        try:
            model.load_weights(path)
        except (UserWarning, ValueError) as error:
            line = first_line(error)
            raise ValueError(
                f"{path} does not fit this model and optimizer ({line}); start again "
                "with the settings of the run, or in another folder."
            ) from None
    for state, value in zip(_random_states(model), random, strict=True):
        state.assign(value)
    return progress


def _random_states(model):
    """Returns the states of the random generators, which Keras does not save."""
    weights = {id(weight) for weight in model.weights}
    return [v for v in model.variables if id(v) not in weights]


def _random(model):
    """Returns the random states as lists of whole numbers."""
    states = _random_states(model)
    return [keras.ops.convert_to_numpy(state).tolist() for state in states]


def _check_same(path, saved, model):
    """Raises unless model and optimizer are configured as in the checkpoint."""
    optimizer = keras.saving.serialize_keras_object(model.optimizer)
    here = {**model.config.to_dict(), **optimizer["config"], "optimizer": optimizer}
    optimizer = saved["compile_config"]["optimizer"]
    there = {
        **saved["config"]["config"],
        **optimizer["config"],
        "optimizer": optimizer,
    }
    for side in (here, there):
        side["optimizer"] = side["optimizer"]["class_name"]
        side.pop("name", None)
    here = json.loads(json.dumps(here))
    for field in sorted({*here, *there}):
        if here.get(field) != there.get(field):
            raise ValueError(
                f"{path} was written with {field}={there.get(field)!r} and this run "
                f"has {here.get(field)!r}; start again with the settings of the run, "
                "or in another folder."
            )
