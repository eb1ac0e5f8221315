"""JSON files that are written whole, and named when they cannot be read."""

import json
from pathlib import Path

from widenet_keras.utils.files import replaced_when_done

# More than any of them has.
_LARGEST = 2**24


def write_json(path, content) -> None:
    """Writes a dict of plain values.

    Args:
        path: The file to make or replace.
        content: The dict.
    """
    with replaced_when_done(path) as fresh:
        fresh.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def read_json(path, remedy) -> dict:
    """Returns the dict in a file.

    Args:
        path: The file.
        remedy: What to do if it is damaged, for the message.

    Raises:
        ValueError: If there is none in it.
    """
    try:
        return dict_in(Path(path))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged ({error}); {remedy}.") from None


def dict_in(path: Path) -> dict:
    """Returns the dict in a file.

    Args:
        path: The file.

    Raises:
        ValueError: The reason alone, if there is none in it.
        RecursionError: If too much stands inside each other.
    """
    size = path.stat().st_size
    if size > _LARGEST:
        raise ValueError(f"it has {size:,} bytes")
    content = json.loads(path.read_bytes())
    if not isinstance(content, dict):
        raise ValueError("no dict is in it")
    return content
