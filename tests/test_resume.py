"""Runs that are killed and started again end where they would have ended."""

import csv
import errno
import json
import os
import shutil
import socket
import subprocess
import sys
import textwrap
import time
import zipfile
from unittest.mock import Mock

import keras
import numpy as np
import pytest
from conftest import (
    BACKEND,
    RUN_EAGERLY,
    numpy,
    one_line,
    tiny_config,
    tiny_images,
)

import widenet_keras
from widenet_keras.distribution.single import Replicated
from widenet_keras.inference.keras_file import KerasPredictor
from widenet_keras.optimizers.optimization import Optimization
from widenet_keras.optimizers.schedules import WarmupDecay
from widenet_keras.runs import checkpoint_files
from widenet_keras.runs.averages import averaged_weights
from widenet_keras.runs.callbacks import StopOnNaN
from widenet_keras.runs.checkpoint_files import Reached
from widenet_keras.runs.checkpoints import Checkpoints
from widenet_keras.runs.run import Run
from widenet_keras.utils import locks

BATCHES, EPOCHS = 3, 3


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


def start(folder, epochs=EPOCHS, **settings):
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
        Optimization(**settings).build(epochs * BATCHES, BATCHES),
        loss=keras.losses.CategoricalCrossentropy(from_logits=True),
    )
    return model, Run(folder, {**settings, "epochs": epochs})


def train(folder, extra=(), epochs=EPOCHS, **settings):
    """Trains to the end, or to where a callback kills; returns the weights."""
    model, run = start(folder, epochs, **settings)
    done = run.restore(model, epochs, BATCHES)
    model.fit(
        Stream(done.batches),
        initial_epoch=done.epochs,
        epochs=epochs,
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
        "model_card.md",
        "report.html",
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


def test_a_damaged_checkpoint_costs_an_epoch(tmp_path, capsys):
    whole = train(tmp_path / "whole")
    shutil.copytree(tmp_path / "whole", tmp_path / "run")
    last = tmp_path / "run" / "checkpoints" / "last.keras"
    last.write_bytes(damaged := last.read_bytes()[:-100])
    capsys.readouterr()
    assert_same(train(tmp_path / "run"), whole)
    aside = last.with_name("last.damaged-1.keras")
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{last} is damaged (")
    assert line.endswith(
        f"and is now {aside.name}; going on from {last.with_name('previous.keras')}, "
        "after epoch 2."
    )
    assert aside.read_bytes() == damaged
    assert rows_of(tmp_path / "run") == rows_of(tmp_path / "whole")
    loads = [
        (tmp_path / name / "load/load.csv").read_text() for name in ("run", "whole")
    ]
    assert loads[0] == loads[1]


@pytest.mark.slow
def test_kill_9(tmp_path):
    """The real thing: no exception handler, no clean-up, a folder left behind."""
    script = textwrap.dedent(
        """
        import os, pathlib, signal, sys
        sys.path[:0] = [sys.argv[1]]
        import test_resume
        from widenet_keras.runs import checkpoint_files

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


def test_a_checkpoint_whose_classes_stood_in_other_files_goes_on(tmp_path):
    train(tmp_path, epochs=1)
    path = tmp_path / "checkpoints" / "last.keras"
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    here, before = b"widenet_keras.optimizers.", b"widenet_keras.training."
    assert here in content["config.json"]
    content["config.json"] = content["config.json"].replace(here, before)
    with zipfile.ZipFile(path, "w") as archive:
        for name, value in content.items():
            archive.writestr(name, value)
    train(tmp_path, epochs=2)
    assert len(rows_of(tmp_path)) == 2


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    model, run = start(tmp_path)
    run.checkpoints.set_model(model)
    run.checkpoints.on_epoch_end(0, {"loss": 1.0})
    other = widenet_keras.ImageClassifier(tiny_config(steps=3))
    other.compile(Optimization(warmup_epochs=0).build(1, 1))
    with pytest.raises(ValueError, match="was written with") as error:
        Checkpoints(tmp_path / "checkpoints").restore(other)
    one_line(error)


def two_checkpoints(folder):
    """Returns a model and its run after two epochs, with a checkpoint of each."""
    model, run = start(folder)
    run.checkpoints.set_model(model)
    for epoch in range(2):
        run.checkpoints.progress = Reached(epoch, (epoch + 1) * BATCHES)
        run.checkpoints.on_epoch_end(epoch, {"loss": 1.0, "val_accuracy": 0.5 + epoch})
    return model, run.checkpoints


def rewritten(path, name, content):
    """Writes a member of an archive anew, with the checksum that it then has."""
    with zipfile.ZipFile(path) as archive:
        members = {each: archive.read(each) for each in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for each, old in members.items():
            archive.writestr(each, content if each == name else old)


def flipped(path, name):
    """Flips a bit in the middle of a member of an archive."""
    with zipfile.ZipFile(path) as archive:
        member = archive.read(name)
    content = path.read_bytes()
    place = content.index(member) + len(member) // 2
    path.write_bytes(
        content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :]
    )


def misplaced(path):
    """Has an archive say that its members stand before its beginning."""
    content = path.read_bytes()
    # Its last 22 bytes end with the place of the directory and a comment's length.
    place = int.from_bytes(content[-6:-2], "little") + 10**6
    path.write_bytes(content[:-6] + place.to_bytes(4, "little") + content[-2:])


DAMAGES = {
    "weights": lambda path: flipped(path, "model.weights.h5"),
    "config": lambda path: flipped(path, "config.json"),
    "progress": lambda path: flipped(path, "progress.json"),
    "no progress": lambda path: rewritten(path, "progress.json", "[1]"),
    "wrong progress": lambda path: rewritten(
        path, "progress.json", '{"epochs": "2", "batches": 6, "random": []}'
    ),
    "misplaced": lambda path: misplaced(path),
    "cut": lambda path: path.write_bytes(path.read_bytes()[: -(10**3)]),
    "empty": lambda path: path.write_bytes(b""),
    "no archive": lambda path: path.write_bytes(b"PK not a zip"),
}


def test_the_older_checkpoint_is_taken_when_the_newer_is_damaged(tmp_path, capsys):
    model, checkpoints = two_checkpoints(tmp_path)
    last, previous = checkpoints.last, checkpoints.previous
    assert checkpoints.restore(model).epochs == 2
    whole = last.read_bytes()
    for number, (name, damage) in enumerate(DAMAGES.items(), 1):
        last.write_bytes(whole)
        damage(last)
        damaged = last.read_bytes()
        assert Checkpoints(last.parent).restore(model).epochs == 1, name
        [line] = capsys.readouterr().err.splitlines()
        assert str(last) in line, name
        assert str(previous) in line, name
        aside = last.with_name(f"last.damaged-{number}.keras")
        assert aside.read_bytes() == damaged, name
        assert not last.exists()
    # Killed where the newer one is put aside.
    assert Checkpoints(last.parent).restore(model).epochs == 1
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{last} is not there; going on from {previous}")


def test_a_checkpoint_that_cannot_be_read_now_stays(tmp_path, monkeypatch, capsys):
    model, checkpoints = two_checkpoints(tmp_path)
    last, whole = checkpoints.last, checkpoints.last.read_bytes()
    errors = [OSError(each, os.strerror(each)) for each in (errno.EIO, errno.EMFILE)]
    for error in (*errors, MemoryError()):

        def fails(archive, error=error):
            raise error

        with monkeypatch.context() as patch:
            patch.setattr(zipfile.ZipFile, "testzip", fails)
            with pytest.raises(type(error)):
                Checkpoints(last.parent).restore(model)
        assert last.read_bytes() == whole
    with monkeypatch.context() as patch:
        stale = OSError(errno.ESTALE, "Stale file handle")
        patch.setattr(model, "load_weights", Mock(side_effect=stale))
        with pytest.raises(OSError, match="Stale file handle"):
            Checkpoints(last.parent).restore(model)
    assert capsys.readouterr().err == ""
    assert Checkpoints(last.parent).restore(model).epochs == 2


def test_two_damaged_checkpoints_are_named_and_kept(tmp_path):
    model, checkpoints = two_checkpoints(tmp_path)
    last, previous = checkpoints.last, checkpoints.previous
    checkpoints.best.write_bytes(b"")
    assert checkpoints.restore(model).epochs == 2
    for path in (last, previous):
        path.write_bytes(b"PK not a zip")
    with pytest.raises(ValueError, match="are damaged, or not a checkpoint") as error:
        Checkpoints(last.parent).restore(model)
    assert str(last) in one_line(error)
    assert str(previous) in one_line(error)
    previous.unlink()
    with pytest.raises(ValueError, match="the only one, is damaged") as error:
        Checkpoints(last.parent).restore(model)
    assert str(last) in one_line(error)
    assert "remove" not in one_line(error).replace("Nothing was removed", "")
    assert last.read_bytes() == b"PK not a zip"


def test_what_a_run_cannot_go_on_with_is_found_at_its_start(tmp_path):
    Run(tmp_path, {})
    table = "epoch,loss\n1,0.5\n2,0.25\n"
    loads = "epoch,step,expert_0\n1,0,1.0\n1,1,1.0\n2,0,1.0\n"
    wrong = {
        "settings.json": ["", "{", "[1]", "\x00"],
        "history.csv": ["\x00" * 20, "loss\n0.5\n", table[:-6], table + "3,0.1,0.2"],
        "load/load.csv": [loads, "\x00", loads + "2,1,"],
    }
    wrong["history.csv"] += [table.replace("0.25", "0.2x"), table.replace("2,", "b,")]
    for name, contents in wrong.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        whole = path.read_text() if path.exists() else None
        for content in contents:
            path.write_text(content)
            with pytest.raises(ValueError, match="is damaged") as error:
                Run(tmp_path, {})
            assert str(path) in one_line(error)
            assert path.read_text() == content
        path.unlink()
        if whole is not None:
            path.write_text(whole)
    (tmp_path / "history.csv").write_text(table)
    (tmp_path / "load/load.csv").write_text(loads + "2,1,1.0\n")
    assert len(Run(tmp_path, {}).table.rows) == 2


def test_a_run_may_become_longer(tmp_path, capsys):
    train(tmp_path, epochs=2)
    capsys.readouterr()
    train(tmp_path, epochs=4)
    printed = capsys.readouterr().out
    assert (
        "was a run of 2 epochs and is one of 4 now: from batch 6 on the learning rate "
        "follows the schedule of 4 epochs\ngoing on after epoch 2 of 4"
    ) in printed
    rates = [float(row["learning_rate"]) for row in rows_of(tmp_path)]
    two, four = (WarmupDecay(0.05, n * BATCHES, BATCHES, final=1e-5) for n in (2, 4))
    expected = [*(two(n) for n in (3, 6)), *(four(n) for n in (9, 12))]
    np.testing.assert_allclose(rates, [float(each) for each in expected], rtol=1e-5)
    assert json.loads((tmp_path / "settings.json").read_text())["epochs"] == 4
    with pytest.raises(ValueError, match="4 epochs of 3 batches") as error:
        train(tmp_path, epochs=3)
    assert "3 were asked for; ask for at least 4" in one_line(error)
    assert json.loads((tmp_path / "settings.json").read_text())["epochs"] == 4
    assert len(rows_of(tmp_path)) == 4


def test_a_run_may_become_shorter_down_to_what_is_done(tmp_path, capsys):
    two_checkpoints(tmp_path)
    model, run = start(tmp_path, 1)
    with pytest.raises(ValueError, match="1 were asked for; ask for at least 2"):
        run.restore(model, 1, BATCHES)
    model, run = start(tmp_path, 2)
    assert run.restore(model, 2, BATCHES).epochs == 2
    assert "was a run of 3 epochs and is one of 2 now" in capsys.readouterr().out
    with pytest.raises(ValueError, match="6 batches in 2 epochs behind it") as error:
        run.restore(model, 9, BATCHES + 1)
    one_line(error)


def holder(folder):
    """Returns a process that holds the lock of a folder; imports no framework."""
    script = textwrap.dedent(
        """
        import importlib.util, sys, time
        spec = importlib.util.spec_from_file_location("locks", sys.argv[1])
        locks = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(locks)
        lock = locks.lock_folder(sys.argv[2])
        print("locked", flush=True)
        time.sleep(60)
        """
    )
    arguments = [sys.executable, "-c", script, locks.__file__, str(folder)]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"locked\n"
    return process


@pytest.mark.skipif(locks.fcntl is None, reason="the system has no such locks")
def test_a_second_run_in_a_folder_is_refused(tmp_path):
    with holder(tmp_path) as process:
        with pytest.raises(ValueError, match="is in use by") as error:
            Run(tmp_path, {})
        who = f"process {process.pid} on {socket.gethostname()}"
        assert f"{tmp_path} is in use by {who}" in one_line(error)
        link = tmp_path.with_name(f"{tmp_path.name}_link")
        link.symlink_to(tmp_path)
        with pytest.raises(ValueError, match="is in use by"):
            Run(link, {})
        assert not (tmp_path / "settings.json").exists()
        # Of the processes of a job those that write elsewhere do not lock.
        other = Replicated("two processes", 2, rank=1, processes=2)
        Run(tmp_path, {}, other)
        other._aside.cleanup()
        process.kill()
    first, again = Run(tmp_path, {}), Run(tmp_path, {})
    del first
    with (tmp_path / locks.LOCK).open("a") as file:
        assert locks.try_lock(file) is False
        del again
        assert locks.try_lock(file)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.skipif(locks.fcntl is None, reason="the system has no such locks")
def test_a_process_that_was_forked_does_not_keep_the_lock(tmp_path):
    lock, (read, write) = locks.lock_folder(tmp_path), os.pipe()
    child = os.fork()
    if not child:
        os.close(write)
        os.read(read, 1)
        os._exit(0)
    try:
        del lock
        with (tmp_path / locks.LOCK).open("a") as file:
            # The child lets go of it as it starts.
            end = time.monotonic() + 20
            while not (ours := locks.try_lock(file)) and time.monotonic() < end:
                time.sleep(0.01)
            assert ours
    finally:
        os.close(write)
        os.close(read)
        os.waitpid(child, 0)


def test_a_folder_that_cannot_be_written_is_refused_at_the_start(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ValueError, match="is a file; give the path of a folder"):
        Run(tmp_path / "file", {})
    with pytest.raises(ValueError, match="cannot be written: Not a directory"):
        Run(tmp_path / "file" / "run", {})
    assert (tmp_path / "file").read_text() == "mine"


def test_class_names_that_are_not_utf_8_are_kept(tmp_path):
    folder = tmp_path / "run"
    model, run = start(folder)
    names = [os.fsdecode(b"caf\xe9"), "b", "c", "d", "e"]
    model.class_names = names
    run.finish(model, {})
    assert (folder / "labels.txt").read_bytes() == b"caf\xe9\nb\nc\nd\ne\n"
    assert KerasPredictor(folder / "model.keras").class_names == names
    path = tmp_path / "exported.keras"
    widenet_keras.export(model, path, "keras", class_names=names, say=lambda line: None)
    assert KerasPredictor(path).class_names == names


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_kills_at_random_moments(tmp_path):
    import kill_runs

    _, differences = kill_runs.trials(20, 0, tmp_path)
    assert max(differences) < 1e-6


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="mounts need root")
def test_a_disk_that_is_full_somewhere(tmp_path):
    import kill_runs

    _, differences = kill_runs.trials(10, 0, tmp_path, full=True)
    assert max(differences) < 1e-6


def test_a_loss_that_is_no_number_ends_the_run_and_keeps_the_checkpoint(tmp_path):
    model, run = start(tmp_path)
    run.checkpoints.set_model(model)
    run.checkpoints.on_epoch_end(0, {"loss": 1.0})
    before = run.checkpoints.last.read_bytes()
    done = run.checkpoints.restore(model)
    model.run_eagerly = RUN_EAGERLY
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
    model.run_eagerly = RUN_EAGERLY
    # Two batches are one update.
    model.fit(*Stream(0)[0], epochs=2, verbose=0)
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
    model.run_eagerly = RUN_EAGERLY
    for _ in range(2):
        history = model.fit(*Stream(0)[0], epochs=1, verbose=0)
    assert np.isfinite(history.history["loss"][0])
