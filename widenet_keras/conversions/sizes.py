"""Sizes of a network from its tensors, and checks that they fit."""

import math

import numpy as np

from widenet_keras.conversions.parts import Parts, Told
from widenet_keras.utils.printable import printable

# Heads of widths that are not 64 times as many, by what timm and OpenCLIP publish.
_SIXTEEN = (1152, 1280, 1408, 1664)


def usual_heads(width: int, gated: bool) -> int | None:
    """Returns the heads that published models of a width have, or None.

    Args:
        width: D.
        gated: Whether the feed-forward parts are.
    """
    if width in _SIXTEEN or (width == 1536 and not gated):
        return 16
    return None if width % 64 else width // 64


def heads_of(
    parts: Parts, told: Told, heads: int | None, origin: str
) -> tuple[int, tuple[str, ...]]:
    """Returns the number of heads and what was assumed for it.

    Args:
        parts: Tensors of the network.
        told: What companions tell.
        heads: What the user says, or None.
        origin: What messages call the file.

    Raises:
        ValueError: If nothing tells it, or what is said does not fit.
    """
    width = parts.patch.first.shape[-1]
    whole = isinstance(heads, int) and not isinstance(heads, bool)
    if heads is not None and not (whole and heads >= 1):
        raise ValueError(f"{origin}: heads={heads!r} must be a whole number >= 1.")
    if parts.heads is not None and heads not in (None, parts.heads):
        raise ValueError(
            f"{origin}: heads={heads} does not fit the tensors, which have "
            f"{parts.heads} heads; leave heads out."
        )
    if told.heads is not None and (
        isinstance(told.heads, bool) or not isinstance(told.heads, int)
    ):
        raise ValueError(
            f"{origin}: its config says {printable(repr(told.heads))} heads; give "
            "heads=."
        )
    usual = usual_heads(width, parts.blocks[0].gate is not None)
    found = heads or parts.heads or told.heads or usual
    if found is None:
        raise ValueError(
            f"{origin}: its tensors do not tell the number of heads, and their width "
            f"{width} is of no published model; give heads=."
        )
    if found < 1 or width % found:
        raise ValueError(
            f"{origin}: heads={found} does not divide the width {width} of its "
            "tensors; give heads=."
        )
    assumed = not (heads or parts.heads or told.heads)
    rule = "width / 64" if found * 64 == width else f"width {width}"
    return found, (f"heads {found} by {rule}",) if assumed else ()


def embedded(parts: Parts, origin: str) -> tuple[np.ndarray, np.ndarray, int]:
    """Returns the table of positions (class + N, D), registers (R, D) and sqrt(N).

    The class token is row 0; rows of leading tokens are added to them.

    Args:
        parts: Tensors of the network.
        origin: What messages call the file.

    Raises:
        ValueError: If the patches of the table are not a square.
    """
    leading = [] if parts.class_token is None else [parts.class_token]
    leading += parts.registers
    rows = len(parts.position)
    counts = sorted({0, len(leading), 1 if parts.class_token is not None else 0})
    squares = [k for k in counts if rows > k and math.isqrt(rows - k) ** 2 == rows - k]
    if not squares:
        less = " or ".join(map(str, counts))
        raise ValueError(
            f"{origin}: tensor {parts.position_name!r} has {rows} rows, and without "
            f"{less} of leading tokens they are no square; images must be square."
        )
    own = squares[0]
    for place in range(own):
        leading[place] = leading[place] + parts.position[place]
    table = parts.position[own:]
    side = math.isqrt(len(table))
    if parts.class_token is not None:
        table = np.concatenate([leading.pop(0)[None], table])
    registers = np.stack(leading) if leading else np.zeros((0, table.shape[1]))
    return table, registers, side


def fields_of(parts: Parts, side: int, registers: int) -> dict:
    """Returns the fields of `WideNetConfig` that the tensors tell.

    Args:
        parts: Tensors of the network.
        side: Patches along an image's side.
        registers: R.
    """
    patch, channels, width = parts.patch.first.shape[1:]
    return {
        "image_size": patch * side,
        "channels": channels,
        "patch_size": patch,
        "width": width,
        "steps": len(parts.blocks),
        "mlp_dim": parts.blocks[0].hidden.first.shape[1],
        "gated": parts.blocks[0].gate is not None,
        "embedding_norm": parts.embedding_norm is not None,
        "registers": registers,
        "class_token": parts.class_token is not None,
        "norm_after_pooling": parts.norm_after_pooling,
        "representation": parts.representation is not None,
        "num_classes": 0 if parts.logits is None else parts.logits.first.shape[1],
        "sharing": "none",
        "moe_blocks": "none",
    }


def sizes_told(said: dict, fields: dict) -> tuple[dict, tuple[str, ...]]:
    """Returns sizes of a config as the tensors can have them, and phrases on the rest.

    A pair of equal numbers is one. Patches leave out what is left of an image that is
    no multiple of them, such as 6 of 384 pixels in patches of 14.

    Args:
        said: Dict of fields, as a config has them, and "input_size": the side of the
            images that the preprocessing gives, which is the field's or not.
        fields: What the tensors tell.
    """
    told, phrases = {}, ()
    for name, value in said.items():
        if isinstance(value, list | tuple) and len(value) == 2 == value.count(value[0]):
            value = value[0]
        told[name] = value
    size, patch = told.get("image_size"), fields["patch_size"]
    size = size or told.get("input_size")
    if isinstance(size, int) and size - size % patch == fields["image_size"] != size:
        told["image_size"] = fields["image_size"]
        phrases = (
            f"image_size {fields['image_size']}, where its library takes {size} pixels "
            f"and leaves out the last {size % patch}",
        )
    return told, phrases


def check_sizes(said: dict, fields: dict, who: str, what_to_do: str) -> None:
    """Raises `ValueError` if something says a field that the tensors do not have.

    Args:
        said: Dict of fields.
        fields: What the tensors tell.
        who: What the line begins with.
        what_to_do: How it ends.
    """
    for name, value in said.items():
        if name in fields and value is not None and value != fields[name]:
            raise ValueError(
                f"{who}: {name}={value!r} does not fit the tensors, which have "
                f"{fields[name]!r}; {what_to_do}"
            )
