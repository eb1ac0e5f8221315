"""Writing files so that a crash never leaves half of one behind."""

import contextlib
import ctypes
import errno
import os
import shutil
import sys
import tempfile
from pathlib import Path

from widenet_keras.utils.leftovers import PREFIX, aside_of, mark, remove_leftovers

# Of `linux/fs.h` and `fcntl.h`.
_RENAME_EXCHANGE, _AT_FDCWD = 2, -100
# What a disk says that takes no more.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


@contextlib.contextmanager
def replaced_when_done(path):
    """Yields a path to write to; what is there becomes `path` on success.

    The new file or folder is written into a folder beside `path`, brought to the disk,
    and takes the place of an older one only when the block ends without an error. A
    path that is a link is followed. What an earlier process left there when it was
    killed is removed.

    Args:
        path: The file or folder to make or replace. Its name is kept, since Keras
            chooses the format by it.

    Raises:
        ValueError: If nothing can be written there; the block does not begin. If a file
            was written and a folder with something in it is there, which stays.
        OSError: In one line, if the disk is full; what was there is whole.
    """
    given, path = path, Path(os.path.realpath(path))
    with _room_beside(given, path) as fresh, _full_disk_told(given):
        yield fresh
        _bring_to_disk(fresh)
        if path.is_dir() and fresh.is_file() and any(path.iterdir()):
            raise ValueError(f"{given} is a folder; give the path of a file.")
        if path.is_dir():
            _replace_folder(fresh, path)
        else:
            os.replace(fresh, path)
        _sync(path.parent)


def check_place(path):
    """Tries whether `replaced_when_done` can write a path, for use before the work.

    The folder that it is in is made.

    Args:
        path: The file or folder.

    Raises:
        ValueError: If not.
    """
    with _room_beside(path, Path(os.path.realpath(path))):
        pass


def check_file(path):
    """Tries whether a file can be made or replaced, as `check_place`.

    Args:
        path: The file.

    Raises:
        ValueError: If not, or if it is a folder.
    """
    if os.path.isdir(path):
        raise ValueError(f"{path} is a folder; give the path of a file.")
    check_place(path)


def check_folder(folder):
    """Makes a folder if there is none, and tries whether files can be made in it.

    Args:
        folder: The folder.

    Raises:
        ValueError: If not.
    """
    if os.path.exists(folder) and not os.path.isdir(folder):
        raise ValueError(f"{folder} is a file; give the path of a folder.")
    # As long as any name that is written there.
    with _room_beside(folder, Path(os.path.realpath(folder)) / ("a" * 64)):
        pass


@contextlib.contextmanager
def _room_beside(given, path):
    """Yields a path of the same name in a folder of our own, which goes away."""
    if os.path.ismount(path):
        raise ValueError(
            f"{given} is where a disk is mounted and cannot be replaced; give a path "
            "inside it."
        )
    with contextlib.ExitStack() as stack:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            remove_leftovers(path.parent, alone=False)
            aside = tempfile.TemporaryDirectory(prefix=PREFIX, dir=path.parent)
            aside = Path(stack.enter_context(aside))
            mark(aside, path.name, stack)
            fresh = aside / path.name
            fresh.touch()
        except OSError as error:
            raise _unusable(given, error) from error
        fresh.unlink()
        yield fresh


@contextlib.contextmanager
def _full_disk_told(path):
    """Tells what libraries say of a full disk, in many ways, in one line."""
    try:
        yield
    except Exception as error:
        code = getattr(error, "errno", None)
        # HDF5 and TensorFlow have classes of their own, with the system's words.
        found = [c for c in _FULL if c == code or os.strerror(c) in str(error)]
        if not found:
            raise
        told = OSError(
            f"{path} was not written: {os.strerror(found[0])}; make room on the disk, "
            "or give another path. What was there before is whole."
        )
        told.errno = found[0]
        raise told from error


def _replace_folder(fresh, path):
    """Puts a file or folder in the place of a folder, which goes away."""
    if _exchanged(fresh, path):
        # What stands at `fresh` is now the older folder, which goes with its place.
        return
    old = aside_of(fresh)
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
    # Some file systems sync no folders; a disk that is full is found here at times.
    try:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        if error.errno in _FULL:
            raise


def _unusable(path, error):
    return ValueError(f"{path} cannot be written: {error.strerror}; give another path.")
