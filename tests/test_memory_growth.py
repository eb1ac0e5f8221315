"""Training and prediction go on for as long as somebody likes in the same memory."""

import gc
from pathlib import Path

import numpy as np
import pytest
from conftest import tiny_images, tiny_model

STEPS, PREDICTIONS = 2000, 5000
MEGABYTES = 20


def resident():
    """Returns the memory of this process, megabytes."""
    # Freed is also what a collection before took for used, see `costs.py`.
    gc.unfreeze()
    gc.collect()
    status = Path("/proc/self/status").read_text()
    [line] = [x for x in status.splitlines() if x.startswith("VmRSS:")]
    return int(line.split()[1]) / 1024


def growth(call, count):
    """Returns by how much memory grows in so many calls, after the first hundred."""
    for _ in range(100):
        call()
    start = resident()
    for _ in range(count - 100):
        call()
    return resident() - start


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="of Linux only")
def test_memory_does_not_grow():
    model = tiny_model()
    model.compile()
    images, labels = tiny_images(8), np.arange(8) % 5
    ways = {
        "train_on_batch": (lambda: model.train_on_batch(images, labels), STEPS),
        "predict_on_batch": (lambda: model.predict_on_batch(images), PREDICTIONS),
    }
    grown = {name: growth(*way) for name, way in ways.items()}
    print({name: round(value, 1) for name, value in grown.items()})
    assert max(grown.values()) < MEGABYTES, grown
