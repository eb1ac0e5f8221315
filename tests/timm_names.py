"""Every name of timm that is a plain vision transformer, and what it stands for."""

from pathlib import Path
from typing import NamedTuple


class TimmName(NamedTuple):
    """One line of timm_names.txt, which is of timm 1.0.31.

    Attributes:
        name: As `timm.create_model` takes it.
        width: D.
        heads: H.
        activation: Of its feed-forward parts, as here.
        pooling: As here.
        has: Dict of what is special about its tensors: `cls` (class token) False,
            `reg` (registers), `dist` (distillation token), `rows` (of the table of
            positions for leading tokens, otherwise 1), `scale` (LayerScale), `pre` (a
            norm before the blocks), `after` (one after the pooling), `qkv` (biases,
            "none" or "keyless"), `swiglu`, `probe` (attention pooling).
    """

    name: str
    width: int
    heads: int
    activation: str
    pooling: str
    has: dict


def timm_names():
    """Returns all lines."""
    text = (Path(__file__).parent / "timm_names.txt").read_text()
    found = []
    for line in text.splitlines()[1:]:
        name, width, heads, activation, pooling, *words = line.split()
        has = {
            key: _value(value) for key, _, value in (w.partition("=") for w in words)
        }
        found.append(TimmName(name, int(width), int(heads), activation, pooling, has))
    return found


def _value(text):
    if text in ("", "False"):
        return not text
    return int(text) if text.isdigit() else text
