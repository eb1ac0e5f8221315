"""Folders that a writer had when its process was killed, and what becomes of them."""

import contextlib
import os
import shutil
from pathlib import Path

from widenet_keras.utils.locks import try_lock

# Folders of our own making have such a name and hold such a file, with the name of
# what was written there; nothing else is ever removed.
PREFIX, _MARKER = ".widenet-part-", ".widenet-part"


def remove_leftovers(folder, alone=True):
    """Removes what `replaced_when_done` left when its process was killed.

    An older folder that was moved aside and is nowhere else goes back to its place.
    What is being written by a process that lives stays.

    Args:
        folder: The folder.
        alone: Whether nobody else writes there, which counts where the system has no
            locks to tell.
    """
    for leftover in Path(folder).glob(f"{PREFIX}*"):
        marker = leftover / _MARKER
        if leftover.is_symlink() or not marker.is_file():
            continue
        # Another process may remove it at the same time, or another user own it.
        with contextlib.suppress(OSError), marker.open("r+b") as file:
            locked, name = try_lock(file), os.fsdecode(file.read())
            if not _is_ours(leftover, file, name):
                continue
            if locked is None:
                # Windows, which has no locks, removes no file that is open.
                file.close()
            if locked or (locked is None and alone):
                _remove_leftover(leftover, name)


def _is_ours(leftover, marker, name):
    """Whether a folder and its marker are as this user makes them, not a stranger's."""
    owners = {os.stat(leftover).st_uid, os.fstat(marker.fileno()).st_uid}
    if hasattr(os, "getuid") and owners != {os.getuid()}:
        return False
    # What was written there has a name, and never a path to somewhere else.
    return name == os.path.basename(name) and name not in (".", "..")


def _remove_leftover(leftover, name):
    old, place = aside_of(leftover / name), leftover.parent / name
    if old.exists():
        if not name or place.exists():
            # Which of both is wanted nobody knows.
            return
        os.replace(old, place)
    shutil.rmtree(leftover, ignore_errors=True)


def mark(aside, name, stack):
    """Marks a folder as ours, and as in use as long as a stack is.

    Args:
        aside: `Path` of the folder.
        name: Name of what is written there.
        stack: `contextlib.ExitStack`.
    """
    unlocked = aside / "unlocked"
    file = stack.enter_context(unlocked.open("xb"))
    file.write(os.fsencode(name))
    file.flush()
    if try_lock(file) is None:
        # Windows, which has no locks, renames no file that is open.
        file.close()
    # By this name it is found; it must be locked by then.
    unlocked.rename(aside / _MARKER)


def aside_of(fresh):
    """Returns where an older folder is moved aside.

    Args:
        fresh: `Path` of what is written, in a folder of our own.
    """
    return fresh.parent / "old" / fresh.name
