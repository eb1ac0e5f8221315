"""Fields of a configuration as words of a command line."""

import ast
from collections.abc import Iterable, Mapping
from typing import Any

from widenet_keras.models.config import WideNetConfig
from widenet_keras.utils.checks import suggest


def parse_fields(
    words: Mapping[str, str], settled: Iterable[str] = ()
) -> dict[str, Any]:
    """Returns a dict of fields for `WideNetConfig` from their spelling as text.

    Args:
        words: Dict from field to text, such as {"steps": "6", "remat": "full"};
            what is no Python literal is taken as a name.
        settled: Fields that something else decides.

    Raises:
        ValueError: If there is no such field, or it is settled.
    """
    known = [name for name in WideNetConfig.__dataclass_fields__ if name not in settled]
    for name in words:
        if name in settled:
            raise ValueError(
                f"{name} cannot be set here: it follows from the data; leave it out."
            )
        if name not in known:
            nearest = suggest(name, known)
            raise ValueError(
                f"There is no field {name!r} of WideNetConfig."
                + (nearest or f" Fields: {', '.join(known)}.")
            )
    return {name: _value(text) for name, text in words.items()}


def _value(text):
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text
