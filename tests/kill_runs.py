"""Kills a job at random moments, or lets its disk be full, and looks at what is left.

    KERAS_BACKEND=torch OMP_NUM_THREADS=1 python tests/kill_runs.py --trials 200
    KERAS_BACKEND=torch OMP_NUM_THREADS=1 python tests/kill_runs.py --full --trials 50

A job goes on with a run, finishes it, and exports its model onto an older file and an
older folder. Every trial is a process of its own, forked from one that has imported
everything. `--full` mounts file systems in memory, which takes root.
"""

import argparse
import collections
import contextlib
import csv
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

import numpy as np
from PIL import Image
from test_resume import KillAt, Killed, kill, rows_of, train

import widenet_keras
from widenet_keras.files.loading import load_classifier
from widenet_keras.inference.keras_file import KerasPredictor
from widenet_keras.plot import load_matplotlib
from widenet_keras.runs import run as run_file
from widenet_keras.utils.files import replaced_when_done

FOREIGN = (".ssh.20261101", ".git.disabled", ".widenet-part-of-mine", "notes")
CLASSES = ["cat", "dog", "owl", "fox", "bee"]


def job(folder, extra=()):
    """Goes on with the run in a folder, ends it, and exports; returns the weights."""
    weights = train(folder / "run", extra)
    model = load_classifier(folder / "run" / "model.keras")
    options = {"class_names": CLASSES, "say": lambda line: None}
    widenet_keras.export(model, folder / "export.keras", "keras", **options)
    # As a SavedModel, whose writing takes TensorFlow: many files, then the place.
    with replaced_when_done(folder / "export") as fresh:
        fresh.mkdir()
        for number in range(20):
            (fresh / f"{number}.bin").write_bytes(bytes(10_000))
        widenet_keras.export(model, fresh / "model.keras", "keras", **options)
    return weights


def import_all():
    """Imports what jobs import as they go, also what Keras does."""
    load_matplotlib()
    for name in ("matplotlib.backends.backend_agg", "tensorflow"):
        if importlib.util.find_spec(name):
            importlib.import_module(name)


def forked(function, *arguments, log, kill_after=None):
    """Calls a function in a process of its own.

    Returns:
        Its status, negative if it was killed, and what it wrote to stderr.
    """
    child = os.fork()
    if not child:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(output, 2)
        status = 1
        try:
            function(*arguments)
            status = 0
        except (ValueError, OSError) as error:
            # What ends a command with a line.
            print(error, file=sys.stderr, flush=True)
            status = 3
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(child, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return status, Path(log).read_text(errors="replace").strip()


def begun(folder):
    """Makes a job that was stopped in its second epoch after an earlier one."""
    job(folder)
    shutil.rmtree(folder / "run" / "checkpoints")
    (folder / "run" / "history.csv").unlink()
    (folder / "run" / "load" / "load.csv").unlink()
    with contextlib.suppress(Killed):
        job(folder, [KillAt(1, 1, kill)])
    for place in (folder, folder / "run", folder / "run" / "checkpoints"):
        for name in FOREIGN:
            (place / name).mkdir()
            (place / name / "kept.txt").write_text("kept")


def going_on(folder, path):
    """Goes on with the run of a job that was disturbed; keeps the weights."""
    np.savez(path, *train(folder / "run"))


def check_whole(folder):
    """Raises unless all that stands under its own name in a folder is whole."""
    for place in (folder, folder / "run", folder / "run" / "checkpoints"):
        for name in FOREIGN:
            assert (place / name / "kept.txt").read_text() == "kept", place / name
    run = folder / "run"
    # These were there before.
    kept = [folder / "export.keras", folder / "export" / "model.keras"]
    for path in kept:
        assert KerasPredictor(path).class_names == CLASSES, path
    kept = [run / "model.keras", run / "checkpoints" / "last.keras"]
    for path in kept:
        assert path.exists(), path
    assert len(list((folder / "export").iterdir())) == 21
    for path in run.rglob("*"):
        if any(part.startswith(".") for part in path.relative_to(run).parts):
            continue
        if path.suffix == ".keras":
            load_classifier(path)
        elif path.suffix == ".png":
            Image.open(path).load()
        elif path.suffix == ".json":
            json.loads(path.read_text())
        elif path.suffix == ".csv":
            with path.open(newline="") as file:
                rows = list(csv.DictReader(file))
            assert all(None not in (*row, *row.values()) for row in rows), path


def check_end(folder, expected, found):
    """Raises unless a job ended as the undisturbed one; returns the difference."""
    check_whole(folder)
    assert rows_of(folder / "run") == rows_of(expected / "run")
    loads = [(f / "run" / "load" / "load.csv").read_text() for f in (folder, expected)]
    assert loads[0] == loads[1]
    assert not list((folder / "run").rglob(".widenet-part"))
    ours, theirs = (np.load(path) for path in (found, expected / "weights.npz"))
    return max(float(abs(ours[name] - theirs[name]).max()) for name in theirs)


def stage(folder):
    """Returns how far a job is, by what is there."""
    parts = {marker.read_text() for marker in folder.rglob(".widenet-part")}
    if parts:
        return "writing " + ", ".join(sorted(parts))
    return f"after {len(rows_of(folder / 'run'))} epochs"


def trials(count, seed, folder, full=False, say=print):
    """Runs the trials; returns the counts of what was found, and the differences."""
    run_file._has_tensorboard = lambda: False
    import_all()
    random = np.random.default_rng(seed)
    base, expected, log = folder / "base", folder / "whole", folder / "log.txt"
    base.mkdir()
    check(forked(begun, base, log=log))
    shutil.copytree(base, expected)
    start = time.perf_counter()
    check(forked(job, expected, log=log))
    length = time.perf_counter() - start
    check(forked(going_on, expected, expected / "weights.npz", log=log))
    say(f"an undisturbed job takes {length:.1f} s")
    stages, differences = collections.Counter(), []
    for number in range(count):
        trial = folder / f"trial_{number}"
        trial.mkdir()
        arguments = (trial, base, expected, log, random, length)
        one = full_disk if full else killed
        where, difference = one(*arguments)
        stages[where] += 1
        differences.append(difference)
        shutil.rmtree(trial)
        if (number + 1) % 20 == 0:
            say(f"{number + 1}: {dict(stages)}, {max(differences):.1e}")
    return stages, differences


def killed(trial, base, expected, log, random, length):
    """One trial: a job that is killed."""
    shutil.copytree(base, trial, dirs_exist_ok=True)
    status, text = forked(job, trial, log=log, kill_after=random.uniform(0, length))
    assert status in (-9, 0), text
    where = "ended" if status == 0 else stage(trial)
    check_whole(trial)
    found = trial.with_suffix(".npz")
    check(forked(going_on, trial, found, log=log))
    return where, check_end(trial, expected, found)


def full_disk(trial, base, expected, log, random, length):
    """One trial: a job whose disk is full at some place."""
    sizes = [sum(p.stat().st_size for p in f.rglob("*")) for f in (base, expected)]
    # In pages, of which every file takes whole ones.
    pages = sum(1 + p.stat().st_size // 4096 for p in base.rglob("*")) + 16
    room = int(random.uniform(0, 0.6 * (sizes[1] / 4096)))
    options = f"size={4096 * (pages + room)}"
    mount("-t", "tmpfs", "-o", options, "tmpfs", trial)
    try:
        shutil.copytree(base, trial, dirs_exist_ok=True)
        status, text = forked(job, trial, log=log)
        assert status in (0, 3), text
        last = text.splitlines()[-1:] or [""]
        if status:
            assert len(text.splitlines()) == 1, text
            assert str(trial) in text, text
            assert "No space left on device" in text, text
        check_whole(trial)
        mount("-o", "remount,size=256m", trial)
        found = trial.with_suffix(".npz")
        check(forked(going_on, trial, found, log=log))
        where = last[0].split(": No space")[0].replace(str(trial), "")
        return where, check_end(trial, expected, found)
    finally:
        subprocess.run(["umount", str(trial)], check=True)


def mount(*arguments):
    subprocess.run(["mount", *map(str, arguments)], check=True)


def check(ended):
    """Raises unless a process ended well."""
    status, text = ended
    assert status == 0, text


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--full", action="store_true")
    given = parser.parse_args()
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as place:
        counted, apart = trials(given.trials, given.seed, Path(place), given.full)
    for name, times in counted.most_common():
        print(f"{times:4d}  {name}")
    print(
        f"{given.trials} trials in {time.perf_counter() - begin:.0f} s; end weights "
        f"differ by at most {max(apart):.1e}"
    )
