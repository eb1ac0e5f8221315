"""Keeping what frameworks tell everybody off the terminal."""

import contextlib
import logging
import os
import re
import sys
import tempfile
import threading

# What C++ logs below errors, such as "I0000 00:00:17.26 506 cudart_stub.cc:31] ...".
_LOGGED = re.compile(
    rb"[IW]\d{4} \d\d:\d\d:|\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+: [IW] "
    rb"|WARNING: All log messages before absl|INFO: Created TensorFlow Lite"
)
_one_at_a_time = threading.Lock()
# Where `tell` prints while stderr is held back; None for stderr.
_meanwhile = None


def tell(line: str) -> None:
    """Prints a line to stderr, at once also inside of `quiet`."""
    print(line, file=_meanwhile or sys.stderr, flush=True)


@contextlib.contextmanager
def quiet():
    """Context in which warnings and hints are not logged; errors are.

    It holds for Python's loggers and for what C++ writes to the process's stderr;
    anything else that is written there comes out when the block ends, but for what
    `tell` prints.
    """
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with _without_logs_of_cpp():
            yield
    finally:
        logging.disable(before)


@contextlib.contextmanager
def _without_logs_of_cpp():
    if not _one_at_a_time.acquire(blocking=False):
        # It is held back already.
        yield
        return
    with contextlib.ExitStack() as stack:
        stack.callback(_one_at_a_time.release)
        stderr = _duplicate_of_stderr()
        if stderr is None:
            yield
            return
        stack.callback(os.close, stderr)
        stack.enter_context(_told_to(stderr))
        held = stack.enter_context(tempfile.TemporaryFile())
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(stderr, 2)
            held.seek(0)
            with open(2, "wb", closefd=False) as out:
                out.writelines(line for line in held if not _LOGGED.match(line))


@contextlib.contextmanager
def _told_to(stderr):
    """Context in which `tell` prints to a file descriptor, if Python's stderr is 2."""
    global _meanwhile
    try:
        of_process = sys.stderr.fileno() == 2
        like = {"encoding": sys.stderr.encoding, "errors": sys.stderr.errors}
    except (AttributeError, OSError):
        # As in notebooks and tests, which hold nothing back.
        of_process = False
    if not of_process:
        yield
        return
    with open(stderr, "w", closefd=False, **like) as _meanwhile:
        try:
            yield
        finally:
            _meanwhile = None


def _duplicate_of_stderr():
    """Returns a file descriptor, or None where a process has no stderr."""
    try:
        sys.stderr.flush()
        return os.dup(2)
    except (AttributeError, OSError):
        return None
