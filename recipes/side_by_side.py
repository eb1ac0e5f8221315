"""Calls of a function in processes side by side, each on its share of the cores."""

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import sys
import threading
import traceback
from pathlib import Path


def side_by_side(function, calls, logs, jobs):
    """Yields what a function returns for each call, whichever ends first.

    What a call prints goes to its log. When one fails, the others are ended.

    Args:
        function: A function of a module.
        calls: List of tuples of arguments.
        logs: One path per call; parents are made, what is there is kept.
        jobs: Processes at a time.

    Raises:
        ChildProcessError: If a call fails; one line names its log.
    """
    context = multiprocessing.get_context("spawn")
    waiting, free, busy = list(zip(calls, logs, strict=True)), shares(jobs), {}
    try:
        while waiting or busy:
            while waiting and free:
                arguments, log = waiting.pop(0)
                cores = free.pop(0)
                receiver, sender = context.Pipe(duplex=False)
                process = context.Process(
                    target=call, args=(function, arguments, log, sender), daemon=True
                )
                with on_cores(cores):
                    process.start()
                sender.close()
                busy[receiver] = (process, log, cores)
            for receiver in multiprocessing.connection.wait(list(busy)):
                process, log, cores = busy[receiver]
                try:
                    result = receiver.recv()
                except EOFError:
                    process.join()
                    raise ChildProcessError(
                        f"A run ended with status {process.exitcode} (negative: killed "
                        f"by that signal); see the end of {log}. Those that finished "
                        "are kept, and the same command goes on with the others."
                    ) from None
                process.join()
                del busy[receiver]
                free.append(cores)
                yield result
    finally:
        for process, _, _ in busy.values():
            process.terminate()
            process.join()


def call(function, arguments, log, sender):
    """Sends what a function returns; nothing if it fails."""
    threading.Thread(target=end_with_parent, daemon=True).start()
    Path(log).parent.mkdir(parents=True, exist_ok=True)
    with open(log, "a", encoding="utf-8", buffering=1) as file:
        # What C++ prints goes there as well.
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        with contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
            try:
                sender.send(function(*arguments))
            except Exception:
                traceback.print_exc()
                raise SystemExit(1) from None


def end_with_parent():
    """Ends this process when its parent is gone, also one that was killed."""
    multiprocessing.parent_process().join()
    os._exit(1)


def shares(jobs):
    """Returns the cores of each of several processes; None where all share all."""
    if not hasattr(os, "sched_getaffinity"):
        return [None] * jobs
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < jobs:
        return [None] * jobs
    return [set(cores[job::jobs]) for job in range(jobs)]


@contextlib.contextmanager
def on_cores(cores):
    """Processes that start in this context run on these cores only.

    Every backend takes as many threads as it finds cores when it is loaded.
    """
    if cores is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
