"""The last and the best state of a run, on disk, never half-written."""

import contextlib
import itertools
import math
import os
import shutil
import sys
from pathlib import Path
from typing import Literal

import keras

from widenet_keras.distribution.single import ONE_DEVICE, Distribution
from widenet_keras.runs.averages import averaged_weights
from widenet_keras.runs.checkpoint_files import (
    Reached,
    load_state,
    read_state,
    write_state,
)
from widenet_keras.runs.finite import what_is_not_finite
from widenet_keras.training.image_classifier import ImageClassifier
from widenet_keras.utils.checks import check_choice
from widenet_keras.utils.files import replaced_when_done
from widenet_keras.utils.leftovers import remove_leftovers

_LAST, _PREVIOUS = "last.keras", "previous.keras"


class Checkpoints(keras.callbacks.Callback):
    """Writes the state of a run after every epoch, so that a new process goes on.

    `last.keras` has all that a run is made of: weights, moving average,
    optimizer, random state and the position in the data. `previous.keras` is the
    one before it, from which a run goes on if the last one is damaged.
    `best.keras` is the model of the best epoch for use: the averaged weights if
    there is a moving average, and no optimizer. All open with `load_model` on any
    backend. A run
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

    With a moving average Keras validates the weights that are trained; `Run.callbacks`
    has the callback that makes it the averaged ones, of which `best.keras` is.

    Stands last among the callbacks: what the others write for an epoch is then
    on disk before the epoch counts as done.

    In a job of several processes those save that the distribution names, and the
    files of the first one stay. The weights in them are whole, so that they open on
    any number of devices.

    Args:
        folder: Where the files are.
        monitor: The metric that says what is best.
        mode: "max" or "min".
        distribution: `Distribution` of the job.
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        monitor: str = "val_accuracy",
        mode: Literal["max", "min"] = "max",
        distribution: Distribution = ONE_DEVICE,
    ):
        super().__init__()
        check_choice("Checkpoints", "mode", mode, ("max", "min"))
        self.distribution = distribution
        self.folder = Path(folder)
        kept = distribution.own_folder(folder)
        self.last = kept / _LAST
        self.previous = kept / _PREVIOUS
        self.best = kept / "best.keras"
        self.monitor = monitor
        self.mode = mode
        self.progress = Reached()

    def restore(self, model: ImageClassifier) -> Reached:
        """Brings a compiled model to the state of the newest file that is whole.

        A `last.keras` that is damaged is put aside under another name, and one line
        on stderr says so.

        Args:
            model: A compiled `ImageClassifier`, set up as the one that was saved. Its
                `WarmupDecay` may be of more or fewer batches: the run then has the
                schedule of the new length from the batch on where it goes on.

        Returns:
            `Reached`, all zero in a fresh folder.

        Raises:
            ValueError: If the file is of another model or optimizer, or all that are
                there are damaged; these stay where they are.
            OSError: If the file cannot be read; nothing is put aside.
        """
        chief = self.distribution.is_chief
        if chief:
            remove_leftovers(self.last.parent)
        path, state, damage = self._newest()
        if state is not None:
            load_state(model, path, state)
            self.progress = state.progress
        self.distribution.check_agreed(self.folder, [*self.progress[:2]])
        # All processes have read by now.
        if chief and state is not None and path.name == _PREVIOUS:
            print(_set_aside(self.last, path, self.progress, damage), file=sys.stderr)
        return self.progress

    def _newest(self):
        """Returns path and `State` of the newest whole file, and what ails the last."""
        damage = {}
        for name in (_LAST, _PREVIOUS):
            path = self.folder / name
            if not path.exists():
                continue
            try:
                return path, read_state(path), damage.get(self.folder / _LAST)
            except ValueError as error:
                damage[path] = error
        if not damage:
            return None, None, None
        told = " and ".join(f"{path} ({error})" for path, error in damage.items())
        told += " are" if len(damage) > 1 else ", the only one, is"
        raise ValueError(
            f"{told} damaged, or not a checkpoint of a run; put a copy there if you "
            "have one, or start anew in another folder. Nothing was removed."
        )

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Looks at where the epoch begins."""
        self._begun = self.progress.batches

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Counts."""
        done = self.progress.batches + self.model.steps_per_execution
        self.progress = self.progress._replace(batches=done)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Writes `best.keras` if the epoch is the best, then `last.keras`."""
        logs = logs or {}
        if what_is_not_finite(self.model, logs):
            return
        # `fit` knows the steps of an epoch, but for data without an end of their own.
        steps = (self.params or {}).get("steps") or 0
        if self.model.stop_training and self.progress.batches - self._begun < steps:
            # A callback ended the epoch, which is none that the run can go on from.
            self.progress = self.progress._replace(batches=self._begun)
            return
        self.progress = self.progress._replace(epochs=epoch + 1)
        self._keep_best(logs)
        with self.distribution.logical_weights(self.model), self.distribution.apart():
            if not self.distribution.saves:
                return
            with contextlib.ExitStack() as stack:
                # It takes its place after the new one has: two are whole at any time.
                if self.last.exists():
                    older = stack.enter_context(replaced_when_done(self.previous))
                    _link(self.last, older)
                fresh = stack.enter_context(replaced_when_done(self.last))
                self.model.save(fresh)
                write_state(fresh, self.model, self.progress)

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


def _link(path, other):
    """Gives a file a second name, or copies it where it can have one only."""
    try:
        os.link(path, other)
    except OSError:
        shutil.copyfile(path, other)


def _set_aside(last, previous, progress, damage):
    """Puts a damaged file where no run takes or replaces it; returns what to say."""
    told = f"{last} is not there"
    if damage is not None:
        names = (last.with_name(f"last.damaged-{n}.keras") for n in itertools.count(1))
        aside = next(path for path in names if not path.exists())
        os.replace(last, aside)
        told = f"{last} is damaged ({damage}) and is now {aside.name}"
    return f"{told}; going on from {previous}, after epoch {progress.epochs}."
