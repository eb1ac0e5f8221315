"""A worker that dies: one line on every other one, instead of a framework's pages."""

import contextlib
import os
import re
import signal
import sys
import threading

# What the collectives of TensorFlow, JAX (gloo, NCCL, its coordination service) and
# torch say when the other side is gone.
_GONE = re.compile(
    r"Connection (closed by peer|reset by peer|refused)|Socket closed|Broken pipe"
    r"|Collective ops is aborted|health check|heartbeat|Heartbeat"
    r"|Gloo (all|connect)|gloo.*(timed out|[Tt]imeout)|Timed out waiting"
    r"|coordination service|ncclRemoteError|NCCL.*(abort|timeout|error)"
    r"|UNAVAILABLE|DEADLINE_EXCEEDED",
    re.DOTALL,
)
# What a framework says is quoted up to here.
_LONGEST_REASON = 300


@contextlib.contextmanager
def plain_loss_of_worker(processes):
    """Context in which the loss of another worker becomes one line.

    Args:
        processes: Workers of the job; None if nobody has counted them yet.

    Raises:
        ValueError: With the line.
    """
    if processes == 1:
        yield
        return
    try:
        yield
    except ValueError:
        raise
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        if not _GONE.search(text):
            raise
        reason = " ".join(text.split())[:_LONGEST_REASON]
        raise ValueError(_told(processes, reason)) from error


def tell_why_stopped(processes):
    """Has this process say in one line why a launcher ends it.

    torchrun ends all workers when one has ended, by SIGTERM; so does who stops a job.

    Args:
        processes: Workers of the job.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        return

    def tell(number, frame):
        print(
            f"Told to stop by SIGTERM, which a launcher sends when one of the "
            f"{processes} workers was lost; start the same command again: it goes on "
            "from the last checkpoint.",
            file=sys.stderr,
        )
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, tell)
    # Processes that load data are nobody's workers.
    os.register_at_fork(
        after_in_child=lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL)
    )


def _told(processes, reason):
    workers = "workers" if processes is None else f"{processes} workers"
    return (
        f"One of the {workers} was lost ({reason}); start the same command again, with "
        "as many workers as there are and as share a batch evenly: it goes on from the "
        "last checkpoint."
    )
