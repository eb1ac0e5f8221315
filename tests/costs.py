"""What the tests cost: CPU seconds of each and of all, shown at the end of a run.

Seconds of a wall clock depend on what else the machine does; those of the CPU hardly
do. Processes that a test starts are counted with it once they have ended.
"""

import gc
import os

import keras
import pytest

DEAREST = 10
_spent = {}
_before = [0.0]


def cpu_seconds():
    """Returns what this process and its ended children have computed so far."""
    return sum(os.times()[:4])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Adds to the report of a phase (set up, call, tear down) what it cost."""
    report = yield
    now = cpu_seconds()
    report.cpu_seconds = now - _before[0]
    _before[0] = now
    return report


def pytest_collection_finish(session):
    """Starts to count for the first test, and spares the garbage collector."""
    # Keras collects garbage at every product that it quantises. What the imports have
    # made is none, and what was no garbage once is not looked at again: programs that
    # frameworks keep add up to half a second for each time.
    gc.callbacks.append(_freeze)
    gc.collect()
    _before[0] = cpu_seconds()


def _freeze(phase, found):
    if phase == "stop" and found["generation"] == 2:
        gc.freeze()


def pytest_runtest_logreport(report):
    """Adds up the phases of a test, in the process that prints."""
    spent = _spent.get(report.nodeid, 0.0)
    _spent[report.nodeid] = spent + getattr(report, "cpu_seconds", 0.0)


def pytest_terminal_summary(terminalreporter):
    """Prints the dearest tests, then tests and CPU seconds of the backend."""
    dearest = sorted(_spent, key=_spent.get, reverse=True)[:DEAREST]
    for name in dearest:
        terminalreporter.write_line(f"{_spent[name]:8.1f} s  {name}")
    backend, seconds = keras.backend.backend(), cpu_seconds()
    terminalreporter.write_line(
        f"{backend}: {len(_spent)} tests, {seconds:.0f} CPU seconds, of which the "
        f"{len(dearest)} dearest, above, {sum(map(_spent.get, dearest)):.0f}"
    )
