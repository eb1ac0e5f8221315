"""Blocks of which several hold the same part: it is read once, and written once."""

import keras

from widenet_keras.layers.block_math import BlockWeights
from widenet_keras.layers.heads import joins_inner
from widenet_keras.layers.normalization import StackedNorms
from widenet_keras.layers.parallel_paths import check_around
from widenet_keras.layers.pieces.piece import Sizes
from widenet_keras.layers.pieces.stacked_pieces import StackedPieces
from widenet_keras.layers.sharing import PART_PLANS, ranks


def read_blocks(blocks, block_of_step, read, training, width, changes, share=()):
    """Returns the `BlockWeights` of every unique block, read once for all steps.

    Args:
        blocks: List of `Block`s.
        block_of_step: The block that each step reads, a tuple of length L.
        read: Function from a Keras variable to its tensor.
        training: As for `Block.spec`.
        width: D.
        changes: Whether every step changes the weights of its mixture.
        share: Which part of the hidden units takes part, (L,), all the same; or `()`.
    """
    share = share if isinstance(share, tuple) else share[0]
    attentions = [blocks[block].attention for block in block_of_step]
    known = {}
    for each in blocks:
        if each.attention not in known:
            reads = attentions.count(each.attention)
            joins = joins_inner(width, reads)
            known[each.attention] = each.read_attention(read, joins)
        if each.feed_forward not in known:
            known[each.feed_forward] = each.read_feed_forward(
                read, training, changes, share
            )
    return [
        BlockWeights(known[each.attention], known[each.feed_forward]) for each in blocks
    ]


def check_mixtures(blocks):
    """Raises `ValueError` unless all mixtures of experts are of one kind.

    Args:
        blocks: List of `Block`s, built.
    """
    routed = [each.feed_forward for each in blocks if each.is_routed]
    kinds = {(part.router.spec[:3], not part.capacity_factor) for part in routed}
    if len(kinds) > 1:
        raise ValueError(
            f"Encoder: its mixtures of experts are of {len(kinds)} kinds; give all "
            "the same router, experts and top_k, and all a capacity or none."
        )


def sizes_of(blocks, tokens_shape, pieces):
    """Returns the `Sizes` of blocks, of which some may be dense and others mixtures.

    Args:
        blocks: List of `Block`s.
        tokens_shape: (B, T, D).
        pieces: Tuple of `Piece`s.

    Raises:
        ValueError: If two of a kind differ in what a piece has weights for, or a piece
            acts inside parts of which blocks have several.
    """
    check_around("Encoder", pieces, max(block.paths for block in blocks))
    _, tokens, width = tokens_shape
    each = [block.sizes(width, tokens or 0) for block in blocks]
    columns = zip(Sizes._fields, zip(*each, strict=True), strict=True)
    values = {name: sorted(set(column) - {0}) for name, column in columns}
    found = Sizes(**{name: max(some, default=0) for name, some in values.items()})
    for piece in pieces:
        for name, some in values.items():
            every = [found._replace(**{name: value}) for value in some]
            if len({_shapes(piece, sizes) for sizes in every}) > 1:
                raise ValueError(
                    f"Encoder: {piece.kind!r} needs blocks of one size and {name} is "
                    f"{' and '.join(map(str, some))}; give all blocks the same, or "
                    "leave it out (of a model to be pruned: tune it, and merge() it "
                    "before)."
                )
    return found


def _shapes(piece, sizes):
    """Returns the shapes of the weights of a piece, by name; hashable."""
    weights = piece.weights(sizes).items()
    return tuple((name, weight.shape) for name, weight in weights)


def parts_of(blocks):
    """Returns which attention and which feed-forward part blocks have, U pairs.

    Args:
        blocks: List of `Block`s.
    """
    columns = (ranks(getattr(block, part) for block in blocks) for part in PART_PLANS)
    return tuple(zip(*columns, strict=True))


def norm_rows(blocks, block_of_step):
    """Returns the rows of the steps, two tuples, where norms are shared with a part.

    Args:
        blocks: As for `read_blocks`.
        block_of_step: As for `read_blocks`.
    """
    parts = parts_of(blocks)
    return tuple(zip(*(parts[block] for block in block_of_step), strict=True))


def stacked_norms(blocks, rows, policy):
    """Returns the two `StackedNorms` of all steps.

    Args:
        blocks: As for `read_blocks`.
        rows: Which row each step reads, for both; two sequences.
        policy: Dtype policy.
    """
    epsilon = blocks[0].norm_epsilon
    return tuple(
        StackedNorms(max(each) + 1, epsilon, dtype=policy, name=f"norm{number}")
        for number, each in enumerate(rows, 1)
    )


def stacked_pieces(pieces, blocks, rows, policy):
    """Returns the `StackedPieces` of all steps; None without, as files always were.

    Args:
        pieces: Tuple of `Piece`s.
        blocks: The `Block` of each step.
        rows: Which row each step has of what it shares with its block.
        policy: Dtype policy.
    """
    if not pieces:
        return None
    routed = tuple(block.is_routed for block in blocks)
    return StackedPieces(pieces, routed, rows, dtype=policy, name="pieces")


def blocks_as_dicts(blocks):
    """Returns the configs of blocks; a part of an earlier one is told by its index."""
    found, first = [], {}
    for index, block in enumerate(blocks):
        config = keras.saving.serialize_keras_object(block)
        for part in PART_PLANS:
            holder = first.setdefault(getattr(block, part), index)
            if holder < index:
                config["config"][part] = holder
        found.append(config)
    return found


def blocks_of_dicts(configs):
    """Returns the blocks of configs, with the parts that they share.

    Raises:
        ValueError: If a part shall be that of a block that does not come before.
    """
    blocks = []
    for each in configs:
        inner, shared = each["config"], {}
        for part in PART_PLANS:
            holder = inner[part]
            if not isinstance(holder, int):
                continue
            if isinstance(holder, bool) or not 0 <= holder < len(blocks):
                raise ValueError(
                    f"Encoder: block {len(blocks)} has {part}={holder!r}; give the "
                    "index of a block before it, or a layer."
                )
            shared[part] = getattr(blocks[holder], part)
        each = {**each, "config": {**inner, **shared}}
        blocks.append(keras.saving.deserialize_keras_object(each))
    return blocks
