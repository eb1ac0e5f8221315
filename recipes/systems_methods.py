"""What `systems.py` compares: a row for each way to a smaller or a tuned model."""

import functools

from systems_method import Method
from systems_smaller import SMALLER
from systems_structures import STRUCTURES

import widenet_keras
from widenet_keras import Bottleneck, KeyValuePrompt, LoRA, Prompt
from widenet_keras.models.weights import path_of

ADAPTER = 8
COPIES = 4


def _tied(source, blocks, base):
    fields = {**_shared(source, blocks), "moe_blocks": "none"}
    return widenet_keras.tie(source, base=base, **fields)


def _relaxed(source, blocks, rank, base="average", start="svd"):
    fields = {**_shared(source, blocks), "seed": source.seed}
    return widenet_keras.relax(source, rank, base=base, start=start, **fields)


def _shared(source, blocks):
    unique = max(1, round(blocks * source.config.steps))
    return {"sharing": "cycle", "unique_blocks": unique}


def _relax(start, against="tie_average", **how):
    return Method("relax", start, against, **how)


_half = functools.partial(functools.partial, blocks=0.5)
_one = functools.partial(functools.partial, blocks=0)
_RELAX = {
    "tie_average": _relax(_half(_tied, base="average"), None),
    "tie_lower": _relax(_half(_tied, base="lower")),
    "tie_stepwise": _relax(_half(_tied, base="stepwise")),
    "rank_4": _relax(_half(_relaxed, rank=4)),
    "rank_4_stepwise": _relax(_half(_relaxed, rank=4, base="stepwise"), "tie_stepwise"),
    "rank_8": _relax(_half(_relaxed, rank=8)),
    "rank_16": _relax(_half(_relaxed, rank=16)),
    "rank_8_zero_start": _relax(_half(_relaxed, rank=8, start="zero"), "rank_8"),
    "rank_8_teacher": _relax(_half(_relaxed, rank=8), "rank_8", teacher=0.9),
    "rank_16_teacher": _relax(_half(_relaxed, rank=16), "rank_16", teacher=0.9),
    "tie_stepwise_teacher": _relax(
        _half(_tied, base="stepwise"), "tie_stepwise", teacher=0.9
    ),
    "one_block_average": _relax(_one(_tied, base="average"), None),
    "one_block_stepwise": _relax(_one(_tied, base="stepwise"), "one_block_average"),
    "one_block_rank_4": _relax(_one(_relaxed, rank=4), "one_block_average"),
    "one_block_rank_8": _relax(_one(_relaxed, rank=8), "one_block_average"),
}


def _tune(group, pieces, learning_rate, against="head", frozen=None, **how):
    def start(source):
        left = backbone(source) if frozen is None else frozen
        return source.adapted(pieces=pieces, frozen=left)

    return Method(group, start, against, None, True, learning_rate, **how)


def _fewer_prompts(tuned, images, labels):
    how = {"keep": 0.5, "seed": tuned.seed}
    return widenet_keras.prune_prompts(tuned, images, labels, **how)


_BANK = Bottleneck(ADAPTER, bank=COPIES)
_TUNE = {
    "nothing": Method("heads", None, None, shifted=True),
    "head": _tune("heads", (), 1e-1, "nothing"),
    "norms_and_head": _tune("heads", (), 3e-2, frozen=("embedding", "core")),
    "everything": _tune("heads", (), 1e-2, frozen=()),
    "prompts": _tune("prompts", (Prompt(8, dropout=0.0),), 1e-1),
    "prompts_half": Method(
        "prompts", _fewer_prompts, "prompts", "prompts", True, 1e-1, looks=True
    ),
    "pairs": _tune("prompts", (KeyValuePrompt(5),), 1e-1),
    "prompts_and_pairs": _tune(
        "prompts", (Prompt(8, dropout=0.0), KeyValuePrompt(5)), 1e-1
    ),
    "lora": _tune("adapters", (LoRA(4),), 3e-3),
    "bottleneck": _tune("adapters", (Bottleneck(ADAPTER),), 3e-2),
    "bank": _tune("adapters", (_BANK,), 3e-2, "bottleneck"),
    "bank_consistency": _tune("adapters", (_BANK,), 3e-2, "bank", consistency=1.0),
}
METHODS = {**_RELAX, **SMALLER, **_TUNE, **STRUCTURES}
# Those whose model has copies that can be looked at one by one.
BANKS = ("bank", "bank_consistency")
GROUPS = tuple(dict.fromkeys(method.group for method in METHODS.values()))


def backbone(source):
    """Returns the parts of a model without pieces and without its last layer.

    Args:
        source: An `ImageClassifier`.
    """
    layers = (path_of(weight).rpartition("/")[0] for weight in source.head.weights)
    head = [layer for layer in dict.fromkeys(layers) if layer != "head/logits"]
    return ("embedding", "core", "norms", *head)


def members(tuned):
    """Yields a model of each copy of the banks of a model.

    Args:
        tuned: A model whose only bank is a `Bottleneck` that shares "up".
    """
    one = widenet_keras.merge(tuned)
    mine = {weight.name: weight for weight in one.encoder.stacked_pieces.weights}
    bank = {weight.name: weight for weight in tuned.encoder.stacked_pieces.weights}
    for copy in range(COPIES):
        for name in ("bottleneck_down", "bottleneck_down_bias"):
            mine[name].assign(bank[name][:, copy])
        yield one
