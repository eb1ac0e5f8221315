"""Writing files so that a crash never leaves half of one behind."""

import contextlib
import os
import shutil
import tempfile
from pathlib import Path


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
            old = Path(aside) / "old"
            os.replace(path, old)
            try:
                os.replace(fresh, path)
            except OSError:
                os.replace(old, path)
                raise
            shutil.rmtree(old)
        else:
            os.replace(fresh, path)
