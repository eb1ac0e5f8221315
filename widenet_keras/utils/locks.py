"""Locks that end with the process that holds them, however it ends."""

import contextlib
import os
import socket
import weakref
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

LOCK = ".widenet-lock"
# The locks of this process by their real paths, as long as somebody has one.
_held = weakref.WeakValueDictionary()


class _Lock:
    def __init__(self, descriptor):
        self.close = weakref.finalize(self, os.close, descriptor)


def lock_folder(folder):
    """Keeps other processes out of a folder that this one writes.

    The lock is on a hidden file in the folder, which stays. A process that asks twice
    has it twice. Systems without such locks let everyone in.

    Args:
        folder: The folder, which exists.

    Returns:
        An object; the lock ends when the last one of the folder is gone.

    Raises:
        ValueError: If another process has the lock; the line names it.
    """
    path = Path(os.path.realpath(folder)) / LOCK
    if path in _held:
        return _held[path]
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise ValueError(
            f"{path} cannot be opened ({error.strerror}); remove it if nobody writes "
            "there, or give another folder."
        ) from None
    lock = _Lock(descriptor)
    if try_lock(descriptor) is False:
        holder = os.read(descriptor, 1000).decode(errors="replace").split()
        who = "process {} on {}".format(*holder) if len(holder) == 2 else "another one"
        raise ValueError(
            f"{folder} is in use by {who}, which writes there; wait until it has "
            "ended, or give another folder."
        )
    # Only for the line above: on a full disk the lock holds without it.
    with contextlib.suppress(OSError):
        os.truncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()} {socket.gethostname()}".encode())
    _held[path] = lock
    return lock


@contextlib.contextmanager
def in_turn(folder):
    """Context in which one process at a time is; others wait until it has left.

    For a few reads and writes. The lock is on the folder itself and leaves no file;
    systems without such locks let everyone in.

    Args:
        folder: The folder, which exists.
    """
    if fcntl is None:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        # Some network file systems have none.
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def try_lock(file):
    """Locks an open file; the lock ends when the file is closed.

    Args:
        file: The file, or its descriptor.

    Returns:
        True if it is locked now, False if another one has locked it, None if there
        are no locks here.
    """
    if fcntl is None:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    # Some network file systems have none.
    except OSError:
        return None
    return True


def _let_go():
    # A process that reads data for this one would keep the lock when this one is gone.
    for lock in list(_held.values()):
        lock.close()
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)
