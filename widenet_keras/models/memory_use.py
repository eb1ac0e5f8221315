"""What a model takes in memory, by formula: nothing is built for it."""

import dataclasses
import math

from widenet_keras.layers.pieces import pieces_of
from widenet_keras.layers.pieces.piece import Sizes
from widenet_keras.layers.pooling import POOLINGS
from widenet_keras.layers.ring_of_steps import kernel_weights
from widenet_keras.layers.sharing import PART_PLANS
from widenet_keras.models.block_sizes import BlockSize, block_sizes_of
from widenet_keras.models.config import WideNetConfig
from widenet_keras.models.config_checks import OWNER, SIZES
from widenet_keras.utils.checks import check_integer

_FLOAT = 4
# Python's objects for a unique block, and what a step of the depth has besides its
# norms. Measured on torch at 163 kB and 74 bytes; graphs and records take more.
_BLOCK, _STEP = 100_000, 1_000
# What it takes to find out where a ring is read, for each weight of the kernels.
_PLACE = 32
_DEFAULTS = {f.name: f.default for f in dataclasses.fields(WideNetConfig)}


def parameter_count(fields: dict) -> int:
    """Returns the number of parameters of a model.

    Args:
        fields: Fields of a `WideNetConfig` as a file has them, not checked yet; one
            may not even make the config, which has a tuple of as many steps.

    Raises:
        ValueError: If a size is no whole number, or too small.
    """
    c = _values(fields)
    d, unique = c["width"], _unique_blocks(c)
    of_attention, of_dense = (_holders(c, part, unique) for part in PART_PLANS)
    embedding = d * (c["patch_size"] ** 2 * c["channels"] + 1 + _tokens(c))
    embedding += 2 * d * bool(c["embedding_norm"])
    norms = 4 * d * c["steps"]
    if c["shared_norms"] is True:
        norms = 2 * d * (of_attention + of_dense)
    head = 2 * d + _of_head(c)
    mixtures = _routed(c, unique)[0] * of_dense // unique
    blocks = of_attention * _in_paths(c, attention_parameters(d, d, d))
    blocks += mixtures * expert_parameters(d, c["expert_dim"], c["num_experts"])
    dense = dense_parameters(d, c["mlp_dim"], c["gated"])
    blocks += (of_dense - mixtures) * _in_paths(c, dense)
    if c["block_sizes"] is not None:
        blocks = _of_sizes(c, unique)
    if c["ring_size"] is not None:
        blocks += c["ring_size"] - _kernel_weights(c)
    return embedding + blocks + norms + head + _of_pieces(c, unique)


def built_size(fields: dict) -> int:
    """Returns the bytes that building a model takes, and one of its images.

    Args:
        fields: As for `parameter_count`.
    """
    c = _values(fields)
    image = c["image_size"] ** 2 * c["channels"]
    objects = _BLOCK * _unique_blocks(c) * c["paths"] + _STEP * c["steps"]
    if c["ring_size"] is not None:
        objects += _PLACE * _kernel_weights(c)
    return _FLOAT * (parameter_count(fields) + image) + objects


def _values(fields):
    """Returns all fields of a config, with sizes that can be counted with."""
    values = {**_DEFAULTS, **fields}
    for name, minimum in SIZES.items():
        check_integer(OWNER, name, values[name], minimum)
    if values["ring_size"] is not None:
        check_integer(OWNER, "ring_size", values["ring_size"], 1)
    return values


def _kernel_weights(c):
    return kernel_weights(c["steps"], c["width"], c["mlp_dim"], c["gated"])


def _tokens(c):
    patches = (c["image_size"] // c["patch_size"]) ** 2
    return patches + bool(c["class_token"]) + c["registers"]


def _unique_blocks(c):
    """Returns the number of unique blocks; of settings that do not fit, the most."""
    if c["sharing"] == "all":
        return 1
    given = c["unique_blocks"]
    if c["sharing"] in ("sequence", "cycle") and isinstance(given, int):
        return min(max(given, 1), c["steps"])
    return c["steps"]


def _holders(c, part, unique):
    """Returns how many of the unique blocks hold a part; of misfits, the most."""
    given = c["unique_blocks"] or 1
    if c["sharing"] != part or not isinstance(given, int):
        return unique
    return min(max(given, 1), unique)


def _routed(c, unique):
    """Returns how many blocks are mixtures of experts, and how many steps read one."""
    blocks = c["moe_blocks"]
    if not isinstance(blocks, list | tuple):
        return (0, 0) if blocks == "none" else (unique, c["steps"])
    blocks = _routed_blocks(c, unique)
    # Of "cycle" the last round may be cut short.
    rounds, rest = divmod(c["steps"], unique)
    return len(blocks), rounds * len(blocks) + sum(block < rest for block in blocks)


def _routed_blocks(c, unique):
    """Returns which blocks are mixtures of experts."""
    blocks = c["moe_blocks"]
    if not isinstance(blocks, list | tuple):
        return range(0 if blocks == "none" else unique)
    return {block % unique for block in blocks if isinstance(block, int)}


def attention_parameters(width: int, keys: int, values: int) -> int:
    """Returns the number of parameters of an attention.

    Args:
        width: D.
        keys: Numbers in the keys of all heads of a token.
        values: The same of the values.
    """
    return (width + 1) * (2 * keys + values) + (values + 1) * width


def dense_parameters(width: int, hidden: int, gated: bool) -> int:
    """Returns the number of parameters of a dense MLP.

    Args:
        width: D.
        hidden: F.
        gated: Whether it has a gate.
    """
    return _two_layers(width, hidden) + bool(gated) * (width + 1) * hidden


def expert_parameters(width: int, hidden: int, experts: int) -> int:
    """Returns the number of parameters of a mixture of experts and its router.

    Args:
        width: D.
        hidden: F, of each expert.
        experts: E.
    """
    return experts * (width + _two_layers(width, hidden))


def _of_sizes(c, unique):
    """Returns the number of parameters of blocks with sizes of their own."""
    attention, feed_forward = (
        max(1, unique // _holders(c, part, unique)) for part in PART_PLANS
    )
    routed, total, d = _routed_blocks(c, unique), 0, c["width"]
    for block, size in enumerate(block_sizes_of(OWNER, c["block_sizes"])):
        if block % attention == 0:
            keys, values = size.heads * size.key_dim, size.heads * size.value_dim
            total += _in_paths(c, attention_parameters(d, keys, values))
        if block % feed_forward == 0 and block in routed:
            total += expert_parameters(d, size.hidden, c["num_experts"])
        elif block % feed_forward == 0:
            total += _in_paths(c, dense_parameters(d, size.hidden, c["gated"]))
    return total


def _in_paths(c, one):
    """Returns the number of parameters of a part whose paths have so many each."""
    count = c["paths"]
    if count == 1:
        return one
    pairs = count * (count - 1) // 2 if c["cheap_features"] == "maximum" else 0
    return count * (one + 2 * c["width"] + 1) + pairs


def _of_head(c):
    """Returns the number of parameters of a head behind its norm."""
    d, pooling = c["width"], c["pooling"]
    # What is no pooling at all is told of when the config is made.
    pooled = POOLINGS.get(pooling, 1) * d if isinstance(pooling, str) else d
    logits = (pooled + 1) * c["num_classes"]
    representation = bool(c["representation"]) * (d * d + d)
    if pooling == "token_attention":
        return logits + representation + 4 * (d * d + d)
    if pooling != "attention":
        return logits + representation
    query_and_norm = 3 * d
    mlp = _two_layers(d, c["mlp_dim"])
    return logits + representation + query_and_norm + 3 * (d * d + d) + mlp


def _two_layers(width, hidden):
    return 2 * width * hidden + hidden + width


def _of_pieces(c, unique):
    """Returns the number of parameters that all steps have in pieces."""
    key_dim = c["width"] // c["heads"]
    size, steps = BlockSize(c["heads"], key_dim, key_dim, None), c["steps"]
    dense, expert = c["mlp_dim"], c["expert_dim"]
    if c["block_sizes"] is not None:
        # Pieces need blocks of one size, apart from what only mixtures have.
        routed = _routed_blocks(c, unique)
        for block, size in enumerate(block_sizes_of(OWNER, c["block_sizes"])):
            dense = dense if block in routed else size.hidden
            expert = size.hidden if block in routed else expert
    sizes = Sizes(c["width"], *size[:3], tokens=_tokens(c))
    _, routed = _routed(c, unique)
    counts = {"all": steps, "dense": steps - routed, "routed": routed}
    counts |= {"blocks": unique}
    if counts["dense"]:
        sizes = sizes._replace(hidden=dense, gated=bool(c["gated"]))
    if counts["routed"]:
        sizes = sizes._replace(experts=c["num_experts"], expert_hidden=expert)
    return sum(
        math.prod(weight.shape) * counts[weight.steps]
        for piece in pieces_of(OWNER, c["pieces"])
        for weight in piece.weights(sizes).values()
    )
