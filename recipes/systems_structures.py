"""The structures of `systems.py`: all are trained from nothing, with one budget."""

import functools

from systems_method import Method, fresh_model

from widenet_keras import (
    HeadMix,
    Projection,
    RelativeKeys,
    ResidualScale,
    TokenConv,
)

# Of the loss that a teacher's answers are, where it answers at all; and the weights of
# "MiniViT" (arXiv 2204.07154) for its relations and its tokens.
ALPHA, RELATION, HIDDEN = 0.9, 1.0, 0.1


def _tied(source, **fields):
    """Returns a model of half as many blocks, each read by two neighbours."""
    shared = {"sharing": "sequence", "unique_blocks": source.config.steps // 2}
    return fresh_model(source, **shared, **fields)


def _sret(source, grouped):
    """Returns a model with what SReT has; first reads may attend in groups."""
    config = source.config
    least = next(n for n in range(2, config.tokens + 1) if config.tokens % n == 0)
    groups = (least, 1) * (config.steps // 2) if grouped else 1
    pieces = ResidualScale(per="block"), Projection(1.0)
    return _tied(source, shared_norms=True, pieces=pieces, attention_groups=groups)


def _ring(source):
    """Returns a model whose kernels come of a ring as large as half of its blocks."""
    config = source.config
    kernels = 4 * config.width**2 + 2 * config.width * config.mlp_dim
    return fresh_model(source, ring_size=config.steps // 2 * kernels)


def _paths(source, **fields):
    """Returns a model of half the depth, twice as many ways beside each other."""
    return fresh_model(source, paths=2, steps=source.config.steps // 2, **fields)


def _with(*pieces):
    return functools.partial(_tied, pieces=pieces)


def _row(start, against="tied", group="structures", **how):
    return Method(group, start, against, fresh=1.0, **how)


_STRUCTURES = {
    "tied": _row(_tied, "source"),
    "head_mix": _row(_with(HeadMix())),
    "head_mix_published": _row(_with(HeadMix("published")), "head_mix"),
    "head_mix_relative_keys": _row(_with(HeadMix(), RelativeKeys())),
    "head_mix_token_conv": _row(_with(HeadMix(), TokenConv())),
    "sret": _row(functools.partial(_sret, grouped=False)),
    "sret_groups": _row(functools.partial(_sret, grouped=True)),
    "ring": _row(_ring),
    "paths": _row(_paths, "source"),
    "paths_maximum": _row(functools.partial(_paths, cheap_features="maximum"), "paths"),
}
_SEEN = {"relation": RELATION, "hidden": HIDDEN}
_TAUGHT = {
    "logits": _row(_tied, group="taught", teacher=ALPHA),
    "relation_hidden": _row(_tied, "logits", "taught", **_SEEN),
    "logits_relation_hidden": _row(_tied, "logits", "taught", teacher=ALPHA, **_SEEN),
}
STRUCTURES = {**_STRUCTURES, **_TAUGHT}
