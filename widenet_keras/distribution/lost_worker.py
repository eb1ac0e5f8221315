"""A worker that dies: one line on every other one, instead of a framework's pages."""

import contextlib
import re

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


@contextlib.contextmanager
def plain_loss_of_worker(processes):
    """Context in which the loss of another worker becomes one line.

    Args:
        processes: Workers of the job.

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
        said = _GONE.search(f"{type(error).__name__}: {error}")
        if not said:
            raise
        reason = " ".join(said.group(0).split())
        raise ValueError(
            f"One of the {processes} workers was lost ({reason}); start the same "
            "command again, with as many workers as there are: it goes on from the "
            "last checkpoint."
        ) from None
