"""The table of the kinds of pieces, and pieces as configurations write them."""

import dataclasses
from collections.abc import Iterable
from typing import Any

from widenet_keras.layers.pieces.bottleneck import Bottleneck
from widenet_keras.layers.pieces.head_mix import HeadMix
from widenet_keras.layers.pieces.key_value_prompt import KeyValuePrompt
from widenet_keras.layers.pieces.lora import LoRA
from widenet_keras.layers.pieces.piece import Piece
from widenet_keras.layers.pieces.prompt import Prompt
from widenet_keras.layers.pieces.relative_keys import RelativeKeys
from widenet_keras.layers.pieces.residuals import Projection, ResidualScale
from widenet_keras.layers.pieces.token_conv import TokenConv
from widenet_keras.utils.checks import check_choice

# Kind -> frozen dataclass of its settings.
_KINDS = (
    LoRA,
    Bottleneck,
    Prompt,
    KeyValuePrompt,
    HeadMix,
    RelativeKeys,
    ResidualScale,
    Projection,
    TokenConv,
)
KINDS = {kind.kind: kind for kind in _KINDS}


def pieces_of(owner: str, given: Iterable[Piece | dict]) -> tuple[Piece, ...]:
    """Returns pieces as a tuple of `Piece`s.

    Args:
        owner: Name that starts the message of an error.
        given: A sequence of `Piece`s, or of dicts such as
            `{"kind": "lora", "rank": 8}`.

    Raises:
        ValueError: If something is no piece, or a kind is unknown or there twice.
    """
    if not isinstance(given, list | tuple):
        raise ValueError(
            f"{owner}: pieces={given!r} must be a list of pieces, such as "
            "[{'kind': ...}]; for none leave it out."
        )
    found = tuple(_piece_of(owner, each) for each in given)
    kinds = [piece.kind for piece in found]
    for kind in kinds:
        if kinds.count(kind) > 1:
            raise ValueError(
                f"{owner}: pieces has {kind!r} twice; one of a kind serves every step."
            )
    return found


def _piece_of(owner, given):
    if isinstance(given, Piece):
        return given
    if not isinstance(given, dict) or "kind" not in given:
        raise ValueError(
            f"{owner}: pieces has {given!r}; give a dict with a 'kind', one of "
            f"{', '.join(map(repr, KINDS))}."
        )
    settings = dict(given)
    kind = settings.pop("kind")
    check_choice(owner, "kind", kind, tuple(KINDS))
    names = [field.name for field in dataclasses.fields(KINDS[kind])]
    for name in settings:
        check_choice(owner, f"pieces[{kind!r}] setting", name, names)
    return KINDS[kind](**settings)


def as_dicts(pieces: Iterable[Piece]) -> list[dict[str, Any]]:
    """Returns pieces as dicts that JSON can hold, a list.

    Args:
        pieces: As for `WideNetConfig`.
    """
    found = []
    for piece in pieces:
        settings = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in dataclasses.asdict(piece).items()
        }
        found.append({"kind": piece.kind, **settings})
    return found
