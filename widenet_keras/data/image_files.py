"""Which files are images: one list for training, evaluation and prediction."""

import collections
import functools
import os

from widenet_keras.utils.printable import printable
from widenet_keras.utils.quiet import tell

# What is in a file decides how it is read; its name, whether it is taken for an image.
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp")
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WebP")
# What Windows and macOS leave in folders; other names of theirs begin with a dot.
_OF_SYSTEMS = ("__macosx", "thumbs.db", "desktop.ini")


def is_image(name: str) -> bool:
    """Whether a file is taken for an image, by its name.

    Args:
        name: Name of the file, str.
    """
    return name.lower().endswith(SUFFIXES)


def is_hidden(name: str) -> bool:
    """Whether a file or folder is hidden or a system's own.

    Args:
        name: Its name, str.
    """
    return name.startswith(".") or name.lower() in _OF_SYSTEMS


def say_left_out(place: str | os.PathLike, names: list[str]) -> None:
    """Says on stderr how many files of a folder are no images, by their suffixes.

    Args:
        place: The folder.
        names: Names of the files that are left out, str; none for no line.
    """
    if names:
        files = "file" if len(names) == 1 else "files"
        say_once(f"left out {len(names)} {files} of {place}: {kinds_of(names)}")


def kinds_of(names: list[str]) -> str:
    """Returns how many files there are of each suffix, as words.

    Args:
        names: Names of files, str.
    """
    suffixes = [os.path.splitext(name)[1].lower() for name in names]
    counts = sorted(
        collections.Counter(suffixes).items(), key=lambda found: (-found[1], found[0])
    )
    return ", ".join(f"{n} {suffix or 'without a suffix'}" for suffix, n in counts)


@functools.cache
def say_once(line: str) -> None:
    """Says a line on stderr; once, since two splits may read the same folder."""
    tell(printable(line))
