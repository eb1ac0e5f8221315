"""How large the parts of blocks are, where it differs, and how much of them runs."""

from collections.abc import Sequence
from typing import NamedTuple

from widenet_keras.utils.checks import check_integer

_KEYS = "(heads, key_dim, value_dim, hidden)"


class BlockSize(NamedTuple):
    """Sizes of one unique block.

    Attributes:
        heads: H of its attention.
        key_dim: Size of a head's queries and keys.
        value_dim: Size of a head's values.
        hidden: F, hidden width of its dense MLP, or of each of its experts.
    """

    heads: int
    key_dim: int
    value_dim: int
    hidden: int


def block_sizes_of(owner: str, given: object) -> tuple[BlockSize, ...] | None:
    """Returns block sizes as a tuple of `BlockSize`s, or None.

    Args:
        owner: Name that starts the message of an error.
        given: None, or a sequence with the size of each block: a `BlockSize`, its four
            numbers, or a dict of them.

    Raises:
        ValueError: If something is no size.
    """
    if given is None:
        return None
    if not isinstance(given, list | tuple) or not given:
        raise ValueError(
            f"{owner}: block_sizes={given!r} must have a size for each unique block, "
            f"{_KEYS}; for equal blocks leave it out."
        )
    return tuple(_size_of(owner, block, each) for block, each in enumerate(given))


def _size_of(owner, block, given):
    values = given
    if isinstance(given, dict) and set(given) == set(BlockSize._fields):
        values = [given[name] for name in BlockSize._fields]
    if not isinstance(values, list | tuple) or len(values) != len(BlockSize._fields):
        raise ValueError(
            f"{owner}: block_sizes[{block}]={given!r} must have four numbers, {_KEYS}."
        )
    for name, value in zip(BlockSize._fields, values, strict=True):
        check_integer(owner, f"block_sizes[{block}] {name}", value, 1)
    return BlockSize(*values)


def check_block_sizes(owner: str, config: object):
    """Raises `ValueError` unless the sizes of a `WideNetConfig` fit its blocks.

    Args:
        owner: Name that starts the message.
        config: `WideNetConfig`.
    """
    sizes, blocks = config.block_sizes, config.num_unique_blocks
    if sizes is None:
        return
    if len(sizes) != blocks:
        raise ValueError(
            f"{owner}: block_sizes has {len(sizes)} sizes and there are {blocks} "
            "unique blocks; give one for each."
        )
    for part, own in (("attention", slice(0, 3)), ("feed_forward", slice(3, 4))):
        for block, holder in enumerate(config.holders(part)):
            here, there = sizes[block][own], sizes[holder][own]
            if here != there:
                raise ValueError(
                    f"{owner}: block_sizes gives blocks {holder} and {block} different "
                    f"sizes, {there} and {here}, of the {part.replace('_', '-')} part "
                    "that they share; give both the same."
                )


def check_equal_blocks(owner: str, config: object):
    """Raises `ValueError` for blocks or steps with sizes of their own.

    Args:
        owner: Who asks, for the message.
        config: `WideNetConfig`.
    """
    for field in ("block_sizes", "step_widths"):
        if getattr(config, field) is not None:
            raise ValueError(
                f"{owner}: takes models without {field} and this one has it; give the "
                "model that it was pruned or extracted from."
            )


def sizes_as_dicts(sizes: Sequence[BlockSize]) -> list[dict[str, int]]:
    """Returns block sizes as JSON holds them.

    Args:
        sizes: `BlockSize`s.
    """
    return [size._asdict() for size in sizes]
