"""Runs that are killed and started again end where they would have ended."""

import csv
import os
import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest
from conftest import BACKEND, numpy, one_line, tiny_config, tiny_images

import widenet_keras
from widenet_keras.training import checkpoint_files
from widenet_keras.training.averages import averaged_weights
from widenet_keras.training.callbacks import StopOnNaN
from widenet_keras.training.checkpoints import Checkpoints
from widenet_keras.training.optimization import Optimization
from widenet_keras.training.run import Run

BATCHES, EPOCHS = 3, 3


slow_where_processes_start_slowly = (
    (lambda test: test) if BACKEND == "torch" else pytest.mark.slow
)


class Killed(BaseException):
    """Ends a process in the middle, as far as the process can tell."""


class Stream(keras.utils.PyDataset):
    """Endless batches that are a function of their number."""

    def __init__(self, first):
        super().__init__()
        self.first = first

    num_batches = None

    def __getitem__(self, index):
        random = np.random.default_rng(self.first + index)
        labels = np.eye(5, dtype="float32")[random.integers(0, 5, 4)]
        return random.normal(size=(4, 12, 12, 3)).astype("float32"), labels


class KillAt(keras.callbacks.Callback):
    def __init__(self, epoch, batch, kill):
        super().__init__()
        self.where, self.kill = (epoch, batch), kill

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.epoch, batch) == self.where:
            self.kill()


def start(folder, **settings):
    """Returns a compiled model and its run, as a new process would make them."""
    keras.utils.set_random_seed(0)
    # Three batches an epoch, two per update: checkpoints fall between them.
    settings = {
        "optimizer": "adamw",
        "ema": 0.5,
        "accumulate": 2,
        "warmup_epochs": 1,
        "learning_rate": 0.05,
        **settings,
    }
    model = widenet_keras.ImageClassifier(tiny_config(steps=2), seed=3)
    model.compile(
        Optimization(**settings).build(EPOCHS * BATCHES, BATCHES),
        loss=keras.losses.CategoricalCrossentropy(from_logits=True),
    )
    return model, Run(folder, settings)


def train(folder, extra=(), **settings):
    """Trains to the end, or to where a callback kills; returns the weights."""
    model, run = start(folder, **settings)
    done = run.checkpoints.restore(model)
    model.fit(
        Stream(done.batches),
        initial_epoch=done.epochs,
        epochs=EPOCHS,
        steps_per_epoch=BATCHES,
        validation_data=Stream(1000)[0],
        callbacks=[*run.callbacks(model, 4, tiny_images(2)), *extra],
        verbose=0,
    )
    metrics = {"batches": run.checkpoints.progress.batches}
    run.finish(model, metrics, tiny_images(2))
    return [numpy(weight).copy() for weight in model.weights]


def assert_same(found, expected):
    for ours, theirs in zip(found, expected, strict=True):
        if BACKEND == "torch":
            np.testing.assert_allclose(ours, theirs, atol=1e-6, rtol=0)
        else:
            np.testing.assert_array_equal(ours, theirs)


def rows_of(folder):
    with (folder / "history.csv").open(newline="") as file:
        return [
            {k: v for k, v in row.items() if k != "images_per_second"}
            for row in csv.DictReader(file)
        ]


def kill():
    raise Killed


def test_a_killed_run_ends_where_it_would_have_ended(tmp_path, monkeypatch):
    """Killed in the middle of an epoch, then while a checkpoint is written."""
    whole = train(tmp_path / "whole")
    assert sorted(p.name for p in (tmp_path / "whole").iterdir() if p.is_file()) == [
        ".widenet-lock",
        "curves.png",
        "history.csv",
        "labels.txt",
        "load.png",
        "metrics.json",
        "model.keras",
        "routing.png",
        "settings.json",
    ]
    with pytest.raises(Killed):
        train(tmp_path / "run", [KillAt(1, 1, kill)])

    def half_write(self, name, *args):
        self.fp.write(b"half of it")
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint_files.zipfile.ZipFile, "writestr", half_write)
        with pytest.raises(Killed):
            train(tmp_path / "run")
    assert_same(train(tmp_path / "run"), whole)
    assert rows_of(tmp_path / "run") == rows_of(tmp_path / "whole")
    assert len(rows_of(tmp_path / "run")) == EPOCHS
    # Started once more, a finished run stays what it is.
    assert_same(train(tmp_path / "run"), whole)
    pictures = sorted(p.name for p in (tmp_path / "run" / "load").iterdir())
    assert pictures == [*(f"epoch_000{n}.png" for n in (1, 2, 3)), "load.csv"]
    loads = [
        (tmp_path / name / "load/load.csv").read_text() for name in ("run", "whole")
    ]
    assert loads[0] == loads[1]
    # A row per epoch and step; two choices of each token, so the loads sum to 1.
    rows = list(csv.DictReader(loads[0].splitlines()))
    assert [(row["epoch"], row["step"]) for row in rows] == [
        (str(epoch), str(step)) for epoch in (1, 2, 3) for step in (0, 1)
    ]
    for row in rows:
        total = sum(float(row[name]) for name in row if name.startswith("expert_"))
        assert total == pytest.approx(1.0, abs=1e-4)
    loaded = widenet_keras.load_model(tmp_path / "run" / "model.keras")
    assert_same([numpy(weight) for weight in loaded.weights], whole)


@slow_where_processes_start_slowly
def test_kill_9(tmp_path):
    """The real thing: no exception handler, no clean-up, a folder left behind."""
    script = textwrap.dedent(
        """
        import os, pathlib, signal, sys
        sys.path[:0] = [sys.argv[1]]
        import test_resume
        from widenet_keras.training import checkpoint_files

        def kill():
            os.kill(os.getpid(), signal.SIGKILL)

        write = checkpoint_files.zipfile.ZipFile.writestr

        def write_or_die(archive, name, *args, **kwargs):
            # The last thing that goes into `last.keras`, and into no other file.
            if name == "progress.json":
                kill()
            write(archive, name, *args, **kwargs)

        folder = pathlib.Path(sys.argv[2])
        extra = [test_resume.KillAt(1, 0, kill)]
        if sys.argv[3] == "writing":
            checkpoint_files.zipfile.ZipFile.writestr = write_or_die
            extra = []
        test_resume.train(folder, extra)
        """
    )
    tests, kept = os.path.dirname(__file__), tmp_path / "run" / "checkpoints"
    for where in ("training", "writing"):
        run = subprocess.run(
            [sys.executable, "-c", script, tests, str(tmp_path / "run"), where],
            capture_output=True,
            check=False,
        )
        assert run.returncode == -9, run.stderr.decode()[-2000:]
        # A writer that is killed leaves the new files aside and the old one whole.
        assert len(list(kept.glob(".widenet-part-*"))) == 2 * (where == "writing")
    assert_same(train(tmp_path / "run"), train(tmp_path / "whole"))
    names = ["best.keras", "last.keras", "previous.keras"]
    assert sorted(path.name for path in kept.iterdir()) == names


def test_a_run_with_other_settings_is_refused(tmp_path):
    start(tmp_path)
    with pytest.raises(ValueError, match="other") as error:
        start(tmp_path, learning_rate=0.1)
    assert "learning_rate=0.05 and this one has 0.1" in one_line(error)


def test_a_run_of_version_0_1_0_goes_on(tmp_path):
    (tmp_path / "settings.json").write_text('{"epoch_steps": 3, "ema": 0.5}')
    Run(tmp_path, {"ema": 0.5, "epoch_batches": 3})


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    model, run = start(tmp_path)
    run.checkpoints.set_model(model)
    run.checkpoints.on_epoch_end(0, {"loss": 1.0})
    other = widenet_keras.ImageClassifier(tiny_config(steps=3))
    other.compile(Optimization(warmup_epochs=0).build(1, 1))
    with pytest.raises(ValueError, match="was written with") as error:
        Checkpoints(tmp_path / "checkpoints").restore(other)
    one_line(error)


def test_a_broken_checkpoint_is_told_in_one_line(tmp_path):
    (tmp_path / "last.keras").write_bytes(b"PK not a zip")
    model, _ = start(tmp_path / "run")
    with pytest.raises(ValueError, match="not a checkpoint of a run") as error:
        Checkpoints(tmp_path).restore(model)
    one_line(error)


def test_a_loss_that_is_no_number_ends_the_run_and_keeps_the_checkpoint(tmp_path):
    model, run = start(tmp_path)
    run.checkpoints.set_model(model)
    run.checkpoints.on_epoch_end(0, {"loss": 1.0})
    before = run.checkpoints.last.read_bytes()
    done = run.checkpoints.restore(model)
    images, labels = Stream(0)[0]
    model.head.logits.bias.assign([np.nan] * model.config.num_classes)
    with pytest.raises(FloatingPointError) as error:
        model.fit(
            images,
            labels,
            initial_epoch=done.epochs,
            epochs=2,
            callbacks=run.callbacks(model, 4),
            verbose=0,
        )
    assert "The loss is nan in epoch 2, at its end; the last good state is" in one_line(
        error
    )
    assert run.checkpoints.last.read_bytes() == before


def test_weights_that_are_no_numbers_are_not_saved(tmp_path):
    """The last update of an epoch shows in no loss of that epoch."""
    model, run = start(tmp_path)
    stop = StopOnNaN(run.checkpoints.last)
    for callback in (stop, run.checkpoints):
        callback.set_model(model)
    stop.on_epoch_begin(1)
    logs = {"loss": 1.0, "val_accuracy": 0.5}
    stop.on_epoch_end(1, logs)
    weight = model.trainable_variables[3]
    weight.assign(np.full(weight.shape, np.nan))
    run.checkpoints.on_epoch_end(1, logs)
    assert not run.checkpoints.last.exists()
    assert not run.checkpoints.best.exists()
    with pytest.raises(FloatingPointError) as error:
        stop.on_epoch_end(1, logs)
    assert one_line(error).startswith(
        f"The weight {weight.path} has values that are no numbers in epoch 2"
    )


def test_the_best_model_is_the_best_average(tmp_path):
    """`best.keras` has the averaged weights, and the run goes on with its own."""
    model, _ = start(tmp_path / "run")
    model.fit(*Stream(0)[0], epochs=1, verbose=0)
    for weight in model.trainable_variables:  # training would move on from here
        weight.assign(numpy(weight) + 1.0)
    own = [numpy(weight).copy() for weight in model.weights]
    with averaged_weights(model):
        average = [numpy(weight).copy() for weight in model.weights]
    checkpoints = Checkpoints(tmp_path)
    checkpoints.set_model(model)
    for epoch, accuracy in enumerate([0.5, 0.4, None, 0.6]):
        checkpoints.on_epoch_end(epoch, {"loss": 1.0, "val_accuracy": accuracy})
        assert checkpoints.progress.best == (0.6 if accuracy == 0.6 else 0.5)
    best = widenet_keras.load_model(tmp_path / "best.keras")
    assert_same([numpy(weight) for weight in best.weights], average)
    assert_same([numpy(weight) for weight in model.weights], own)
    assert any((a != o).any() for a, o in zip(average, own, strict=True))


def test_fit_goes_on_after_a_moving_average(tmp_path):
    """Keras 3.15 points weights and average at one buffer on JAX."""
    model, _ = start(tmp_path)
    for _ in range(2):
        history = model.fit(*Stream(0)[0], epochs=1, verbose=0)
    assert np.isfinite(history.history["loss"][0])
