"""What a training prints: a line per epoch, and that it compiles."""

import re
import sys

import numpy as np
from conftest import BACKEND, tiny_images, tiny_model

from widenet_keras.runs.epoch_lines import EpochLines


def lines_of(capsys, shown=True, **options):
    """Returns what two epochs print."""
    model = tiny_model(steps=1)
    model.compile(**options)
    images, labels = tiny_images(4), np.arange(4)
    model.fit(
        images,
        labels,
        epochs=2,
        batch_size=2,
        validation_data=(images, labels),
        validation_freq=2,
        callbacks=[EpochLines(shown)],
        verbose=0,
    )
    return capsys.readouterr().out


def test_a_line_per_epoch(capsys):
    lines = lines_of(capsys).splitlines()
    *before, first, second = lines
    assert len(before) == (0 if BACKEND == "torch" else 2)
    number = r"\d+\.\d{4}"
    ours = rf"loss {number}  accuracy {number}"
    assert re.fullmatch(rf"epoch 1/2  {ours}  \d+\.\d s", first)
    assert re.fullmatch(rf"epoch 2/2  {ours}  val_accuracy {number}  \d+\.\d s", second)
    if before:
        assert before[0] == "compiling for the first batch ..."
        assert re.fullmatch(r"the first batch took \d+\.\d s", before[1])


def test_what_is_not_compiled_and_other_processes(capsys):
    assert "compiling" not in lines_of(capsys, run_eagerly=True)
    assert lines_of(capsys, shown=False, run_eagerly=True) == ""


def test_a_terminal_shows_how_far_an_epoch_is(capsys, monkeypatch):
    monkeypatch.setattr("widenet_keras.runs.epoch_lines._PAUSE", 0.0)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    printed = lines_of(capsys, run_eagerly=True)
    assert re.search(r"\repoch 1/2  loss \S+  accuracy \S+  batch 2/2 \r", printed)
