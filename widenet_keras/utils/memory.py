"""How much memory a file may ask for, compared before anything is built."""

import re
from pathlib import Path

from widenet_keras.utils.checks import check_integer

GIB = 2**30
# What a file may take beyond what it weighs itself.
MAX_MEMORY = 2 * GIB

_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": GIB, "T": 2**40}


def memory_of(text: str) -> int:
    """Returns the bytes that a text such as "8G" says.

    Args:
        text: A number with K, M, G or T for the powers of 1024, or with none.

    Raises:
        ValueError: If it is something else.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGT]?)(?:i?B)?", text.strip(), re.I)
    if not found:
        raise ValueError(f"{text!r} is no amount of memory; give one such as 8G.")
    number, unit = found.groups()
    return int(float(number) * _UNITS[unit.upper()])


def check_memory(path, what: str, needed: int, max_memory: int):
    """Raises `ValueError` if something of a file would take too much memory.

    Args:
        path: The file or folder; what it weighs is allowed besides.
        what: What would take it, such as "its weights".
        needed: Bytes of that.
        max_memory: Bytes that are allowed beyond what the file weighs.
    """
    check_integer("open", "max_memory", max_memory, 0)
    allowed = max_memory + _on_disk(Path(path))
    if needed > allowed:
        raise ValueError(
            f"{path} would take {_in_gib(needed)} of memory for {what}, more than the "
            f"allowed {_in_gib(allowed)}; if you trust it, allow more (max_memory in "
            "Python, --max-memory of widenet)."
        )


def check_taken(owner: str, what: str, needed: int, max_memory: int):
    """Raises `ValueError` if a call would take too much memory.

    Args:
        owner: Who asks, for the message.
        what: What would take it, such as "its weights".
        needed: Bytes of that.
        max_memory: Bytes that are allowed.
    """
    check_integer(owner, "max_memory", max_memory, 0)
    if needed > max_memory:
        raise ValueError(
            f"{owner}: {what} would take {_in_gib(needed)} of memory, more than the "
            f"allowed {_in_gib(max_memory)}; if there is as much, allow more "
            "(max_memory in Python, --max-memory of widenet)."
        )


def weight_of(path: Path) -> int:
    """Returns the bytes of a file, or of all files of a folder."""
    return sum(each.stat().st_size for each in _files_of(path))


def _on_disk(path):
    """Returns the same without the holes of files, which weigh nothing."""
    stats = [each.stat() for each in _files_of(path)]
    # Windows does not tell of blocks.
    return sum(
        min(each.st_size, 512 * getattr(each, "st_blocks", each.st_size))
        for each in stats
    )


def _files_of(path):
    files = path.rglob("*") if path.is_dir() else [path]
    return [each for each in files if each.is_file()]


def _in_gib(size):
    """Returns a size as a person reads it, whatever a file claims."""
    digits = 1 if size >= 0.1 * GIB else 4
    return f"{size / GIB:,.{digits}f} GiB" if size < 1e15 else "over a million GiB"
