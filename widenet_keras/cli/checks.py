"""What is wrong with a command's words can be said before Keras is imported.

Paths are asked of `os.path`: those of `pathlib` fail at names that are too long.
"""

import os
from collections.abc import Iterable
from pathlib import Path

from widenet_keras.utils.checks import check_choice, suggest
from widenet_keras.utils.command_line import USAGE, stop
from widenet_keras.utils.memory import memory_of

_SPLITS = ("train", "validation", "test")
# Names of `SOURCES` without a colon, which stands behind imports of Keras.
_WORDS = ("digits",)


def check_at_least(command: str, flag: str, value: int | None, least: int = 1) -> None:
    """Ends the process unless a flag's number is large enough, or not given."""
    if value is not None and value < least:
        stop(f"widenet {command}", f"{flag} {value} must be at least {least}.", USAGE)


def check_part(command: str, flag: str, value: float, whole: bool = True) -> None:
    """Ends the process unless a flag says a part of a whole, over 0 and at most 1.

    Args:
        command: Name of the command.
        flag: The flag.
        value: What it was given.
        whole: Whether it may be 1.
    """
    if not (0 < value < 1 or (whole and value == 1)):
        limit = "(0, 1]" if whole else "(0, 1)"
        stop(f"widenet {command}", f"{flag} {value} must be in {limit}.", USAGE)


def check_memory_flag(command: str, text: str) -> None:
    """Ends the process unless `--max-memory` says an amount, such as 8G."""
    try:
        memory_of(text)
    except ValueError as error:
        stop(f"widenet {command}", f"--max-memory: {error}", USAGE)


def check_needs_data(flag: str, value: object, data: str | None) -> None:
    """Raises `ValueError` if a flag of images is given and there are none.

    Args:
        flag: The flag.
        value: What it was given, or None.
        data: What `--data` was given, or None.
    """
    if value is not None and data is None:
        raise ValueError(
            f"{flag} {value} is of the images of --data, which is not given; give it, "
            f"or leave {flag} out."
        )


def check_exists(path: Path, give: str) -> None:
    """Raises `ValueError` unless there is something at a path.

    Args:
        path: The path.
        give: What to give instead.
    """
    if not os.path.exists(path):
        raise ValueError(f"{path} does not exist; give {give}.")


def check_not_read(output: Path, read: Iterable[Path], flag: str) -> None:
    """Raises `ValueError` if a command would write over what it reads.

    Args:
        output: Where it is to write.
        read: The files that it reads.
        flag: The flag that says where to write.
    """
    if os.path.exists(output) and any(os.path.samefile(output, path) for path in read):
        raise ValueError(f"{output} is read itself; give another path with {flag}.")


def check_data(data: str | None, split: str) -> None:
    """Raises `ValueError` unless there may be such data and such a part of them.

    Args:
        data: As for `widenet_keras.data.labelled`; None for none.
        split: Name of a part of the data.
    """
    check_choice("--split", "split", split, _SPLITS)
    # What has a colon is an address or a name, which its source knows.
    if data in (None, *_WORDS) or ":" in data:
        return
    if not os.path.exists(os.path.expanduser(data)):
        raise ValueError(
            f"{data} does not exist; give a folder of class folders, a folder of "
            f"TFRecord shards, an .npz file, tfds:NAME, or {', '.join(_WORDS)}."
            f"{suggest(data, _WORDS)}"
        )
