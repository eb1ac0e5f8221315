"""Starting a model that shares its blocks from one that does not."""

import functools
from collections.abc import Iterable
from typing import Any

import numpy as np

from widenet_keras.conversions.remade import begun, check_model
from widenet_keras.conversions.tied_config import tied_config
from widenet_keras.conversions.tied_weights import (
    attention_values,
    feed_forward_values,
    mean_of_groups,
)
from widenet_keras.models.block_sizes import check_equal_blocks
from widenet_keras.models.frozen import parts_kept
from widenet_keras.models.weights import (
    check_kernels,
    check_plain,
    read,
    weights_by_path,
    weights_of_blocks,
    weights_of_some_steps,
)
from widenet_keras.models.widenet import WideNet
from widenet_keras.utils.checks import check_choice, check_integer
from widenet_keras.utils.roles import role_of

BASES = ("auto", "stepwise", "average", "lower")


def tie(
    model: WideNet,
    *,
    base: str = "auto",
    seed: int = 0,
    frozen: Iterable[str] | None = None,
    **fields: Any,
) -> WideNet:
    """Returns a model that shares its blocks, started from one that does not.

    ```python
    vit = widenet_keras.load_model("vit.keras")
    wide = widenet_keras.tie(vit)  # one block, 4 experts, 2 of them per token
    wide.compile()
    wide.fit(images, labels)
    ```

    What a step keeps for itself stays as it is: norms of step t are those of block t,
    and so are pieces.
    Embedding, final norm and head are copied. What a group of blocks shall share
    starts from them in one of three ways:

    - "stepwise": block u of U is a copy of block round(u (L - 1) / (U - 1)) of L, so
      that the first and the last are kept; of one block it is the first. Its experts,
      where the source has none, are copies of one FFN, see below.
    - "average": the mean of the group, entry by entry, so that every block of the
      source goes in, and every FFN into an expert.
    - "lower": block u is a copy of block u.

    In detail:

    - Experts from FFNs: the n blocks of a group are split by depth into E runs of
      neighbours, and expert e is the mean of the FFNs of run e, since blocks next
      to each other are the most alike. With more experts than blocks, FFNs repeat
      in order of depth, the copies with a little noise (1 % of the spread of a
      kernel), so that the router has something to choose between.
    - Their router is new and nearly uniform: normal, with logits of about 0.1. A
      gate is then about 1/E, K of them sum to K/E, and the output kernels and
      biases are multiplied by E/K in return (E/K^2 for "grouped_top_1"), so that
      the layer starts as the plain mean of the K experts, at the scale of an FFN.
      An `output_activation` comes after that kernel: there it is a rough
      correction.
    - Mixtures in the source: where a group has any, expert e is the mean of their
      experts e and the router the mean of their routers, both as they are. The
      FFNs of the other blocks in that group are left out: they are of another
      scale and often of another width, and would make all experts more alike.
      Those blocks give their norms and their attention.
    - A shared block without experts (`moe_blocks`) has the mean of the group's
      FFNs; mixtures in the group are left out. Where the source has mixtures,
      "stepwise" and "lower" count dense blocks and mixtures each by themselves.
    - `shared_norms=True`: norms start like the rest of their block, and so do pieces
      that steps share with it.
    - Steps that read a block again permute the tokens that attend in groups; so where
      the model has groups, `attention_groups` has to be given for such steps.
    - `sharing="attention"` or "feed_forward": only that part is shared. The other one
      of step t starts from block t alone.

    A start, not an equivalent: each block has an order of its own for hidden units,
    heads and experts, and the mean adds unit i to unit i all the same. So train: of a
    ViT of 8 steps and width 32 (digits, 0.86 and 0.93 of two seeds), this many were
    right at once and after four epochs:

    | result | "average" | "stepwise" |
    |---|---|---|
    | 4 blocks | 0.20, 0.17; 0.91, 0.90 | 0.50, 0.50; 0.96, 0.93 |
    | 1 block | 0.10, 0.10; 0.45, 0.61 | 0.16, 0.22; 0.92, 0.87 |
    | 1 block, 4 experts | 0.09, 0.07; 0.62, 0.61 | 0.16, 0.23; 0.93, 0.89 |

    With experts "auto" is "average" all the same: by it every FFN of the source goes
    into an expert, and two seeds of one small ViT do not settle that. Only if all
    blocks are equal the logits are those of the source, within the spread of the gates.

    Sources: the three starts, "Relaxed Recursive Transformers" (arXiv
    2410.20672); copied FFNs as experts under a new router, "Sparse Upcycling" (arXiv
    2212.05055); private norms over shared blocks, arXiv 2107.11817.

    Args:
        model: A `WideNet` or `ImageClassifier` whose steps share a part at most.
        base: "stepwise", "average", "lower", or "auto": "average" if the result has
            experts, else "stepwise".
        seed: Seed of the new routers and of the noise on repeated FFNs.
        frozen: What the result does not train; None for that of the model without what
            starts anew: "core", "norms" that are shared, and "pieces" that are added.
        **fields: Fields of `WideNetConfig` for the result; the others are those of
            the source. By default all steps share one mixture and have private
            norms: `sharing="all"`, `moe_blocks="all"`, `shared_norms=False`. With
            `sharing="sequence"` or "cycle" give `unique_blocks`. `expert_dim`
            follows the weights. `class_token` and `representation` can be turned
            off, not on.

    Returns:
        A new, uncompiled model of the same class, name and dtype policy.

    Raises:
        ValueError: If the source shares blocks, or lacks weights that a field asks for.
    """
    stays = "pieces" not in fields
    return tied("tie", model, base, seed, frozen, fields, stays)


def tied(
    owner: str,
    model: WideNet,
    base: str,
    seed: int,
    frozen: Iterable[str] | None,
    fields: dict,
    pieces_stay: bool,
) -> WideNet:
    """Returns what `tie` does, for whoever has the name.

    Args:
        owner: Name that starts the message of an error.
        model: As for `tie`.
        base: As for `tie`.
        seed: As for `tie`.
        frozen: As for `tie`.
        fields: As for `tie`, a dict.
        pieces_stay: Whether all pieces of the model are to be in the result.
    """
    check_integer(owner, "seed", seed, 0)
    check_model(owner, model)
    check_plain(owner, model)
    check_kernels(owner, model)
    check_equal_blocks(owner, model.config)
    check_choice(owner, "base", base, BASES)
    config, groups = tied_config(owner, model.config, base, fields)
    other = begun(model, config)
    if frozen is not None:
        other.frozen = frozen
    random = np.random.default_rng(seed)
    for part, values in (
        ("attention", attention_values),
        ("feed_forward", functools.partial(feed_forward_values, random=random)),
    ):
        for index, group in groups[part].items():
            for weight, value in values(model, other, index, group):
                weight.assign(value.astype("float32"))
    shared = ("core", "norms") if config.shared_norms else ("core",)
    anew = []
    sources, of_blocks = weights_by_path(model), weights_of_blocks(other)
    if pieces_stay:
        _check_pieces(owner, model, other, of_blocks)
    for path, weight in weights_by_path(other).items():
        role = role_of(weight)
        # Pieces that were asked for and do not fit those of the model start anew; of
        # blocks there are fewer than the model had.
        rows = int(path in of_blocks)
        fits = path in sources and sources[path].shape[rows:] == weight.shape[rows:]
        is_new = role.group == "pieces" and not fits
        is_mean = fits and sources[path].shape != weight.shape
        if role.group in shared or is_new or is_mean:
            anew.append(weight)
        if role.group == "core" or is_new:
            continue
        value = read(sources[path])
        if weight is other.embedding.position:
            # Without a class token its row, the first, is left out.
            value = value[len(value) - weight.shape[0] :]
        elif role.group == "norms":
            part = "attention" if "/norm1/" in path else "feed_forward"
            value = value[[*model.config.norm_rows(part)]]
            if config.shared_norms:
                value = mean_of_groups(value, groups[part].values())
        elif is_mean:
            value = mean_of_groups(value, groups["attention"].values())
        weight.assign(value.astype("float32"))
    if frozen is None:
        other.frozen = parts_kept(model, other, anew)
    return other


def _check_pieces(owner, model, other, of_blocks):
    """Raises `ValueError` unless the pieces of the steps fit the new blocks too."""
    weights, apart = weights_by_path(other), ()
    if model.config.routed_steps != other.config.routed_steps:
        # They would go from one step to another.
        apart = weights_of_some_steps(model)
    for path, weight in weights_by_path(model).items():
        if role_of(weight).group != "pieces" or path in of_blocks:
            continue
        fits = path in weights and weights[path].shape == weight.shape
        if not fits or path in apart:
            raise ValueError(
                f"{owner}: the model has {path}, which does not fit the blocks and the "
                "tokens of the result; keep moe_blocks and class_token as they are, or "
                "say with pieces=... what it has; merge() adds LoRA to the products "
                "first."
            )
