"""Writing files so that a crash never leaves half of one behind."""

import contextlib
import ctypes
import os
import shutil
import sys
import tempfile
from pathlib import Path

# Folders of our own making have such a name and hold such a file, with the name of
# what was written there; nothing else is ever removed.
_PREFIX, _MARKER = ".widenet-part-", ".widenet-part"
# Of `linux/fs.h` and `fcntl.h`.
_RENAME_EXCHANGE, _AT_FDCWD = 2, -100


@contextlib.contextmanager
def replaced_when_done(path):
    """Yields a path to write to; what is there becomes `path` on success.

    The new file or folder is written into a folder beside `path`, brought to the disk,
    and takes the place of an older one only when the block ends without an error. A
    path that is a link is followed.

    Args:
        path: The file or folder to make or replace. Its name is kept, since Keras
            chooses the format by it.

    Raises:
        ValueError: If nothing can be written there; the block does not begin.
    """
    given, path = path, Path(os.path.realpath(path))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = tempfile.TemporaryDirectory(prefix=_PREFIX, dir=path.parent)
    except OSError as error:
        raise _unusable(given, error) from error
    with aside as aside:
        (Path(aside) / _MARKER).write_text(path.name, encoding="utf-8")
        fresh = Path(aside) / path.name
        try:
            fresh.touch()
        except OSError as error:
            raise _unusable(given, error) from error
        fresh.unlink()
        yield fresh
        _bring_to_disk(fresh)
        if path.is_dir():
            _replace_folder(fresh, path)
        else:
            os.replace(fresh, path)
        _sync(path.parent)


def remove_leftovers(folder):
    """Removes what `replaced_when_done` left when its process was killed.

    An older folder that was moved aside and is nowhere else goes back to its place.

    Args:
        folder: The folder; nothing else may be writing to it now.
    """
    for leftover in Path(folder).glob(f"{_PREFIX}*"):
        marker = leftover / _MARKER
        if leftover.is_symlink() or not marker.is_file():
            continue
        name = marker.read_text(encoding="utf-8")
        old = _old(leftover / name)
        if old.exists():
            if not name or (Path(folder) / name).exists():
                # Which of both is wanted nobody knows.
                continue
            os.replace(old, Path(folder) / name)
        shutil.rmtree(leftover)


def _old(fresh):
    """Returns where an older folder is moved aside."""
    return fresh.parent / "old" / fresh.name


def _replace_folder(fresh, path):
    """Puts a file or folder in the place of a folder, which goes away."""
    if _exchanged(fresh, path):
        # What stands at `fresh` is now the older folder, which goes with its place.
        return
    old = _old(fresh)
    old.parent.mkdir()
    os.replace(path, old)
    try:
        os.replace(fresh, path)
    except OSError:
        os.replace(old, path)
        raise
    shutil.rmtree(old.parent)


def _exchanged(one, other):
    """Exchanges two paths in one step, so that each always exists; False if it cannot.

    Linux and most of its file systems can.
    """
    if not one.exists() or not sys.platform.startswith("linux"):
        return False
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    paths = os.fsencode(one), os.fsencode(other)
    return not rename(_AT_FDCWD, paths[0], _AT_FDCWD, paths[1], _RENAME_EXCHANGE)


def _bring_to_disk(path):
    """Makes sure that a file, or a folder with all in it, survives a power loss."""
    if path.is_dir():
        for folder, _, names in os.walk(path):
            for name in names:
                _sync(Path(folder) / name)
            _sync(folder)
    elif path.exists():
        _sync(path)


def _sync(path):
    # Some file systems sync no folders.
    with contextlib.suppress(OSError):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _unusable(path, error):
    return ValueError(f"{path} cannot be written: {error.strerror}; give another path.")
