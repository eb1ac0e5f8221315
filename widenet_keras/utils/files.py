"""Writing files so that a crash never leaves half of one behind."""

import contextlib
import os
import re
import shutil
import tempfile
from pathlib import Path

# As `tempfile` makes them.
_ASIDE = re.compile(r"\..+\.[a-z0-9_]{8}")
_OLD = "old"


@contextlib.contextmanager
def replaced_when_done(path):
    """Yields a path beside `path` to write to; it becomes `path` on success.

    The new file or folder is written under a temporary name in the same
    folder, and takes the place of an older one only when the block ends
    without an error. A folder cannot be replaced in one step, so an older
    folder is moved aside first and put back if the swap fails.

    Args:
        path: The file or folder to make or replace. Its suffix is kept in the
            temporary name, since Keras chooses the format by it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as aside:
        fresh = Path(aside) / path.name
        yield fresh
        if path.is_dir() and not path.is_symlink():
            old = Path(aside) / _OLD
            os.replace(path, old)
            try:
                os.replace(fresh, path)
            except OSError:
                os.replace(old, path)
                raise
            shutil.rmtree(old)
        else:
            os.replace(fresh, path)


def remove_leftovers(folder):
    """Removes what `replaced_when_done` left when its process was killed.

    Args:
        folder: The folder; nothing else may be writing to it now.
    """
    for leftover in Path(folder).glob(".*"):
        if not _ASIDE.fullmatch(leftover.name) or not leftover.is_dir():
            continue
        # An older folder that was moved aside is all there is of it: it stays.
        if not any(leftover.rglob(_OLD)):
            shutil.rmtree(leftover)
