"""What a relaxed model is like, before any of its weights is made."""

from collections.abc import Callable

from widenet_keras.conversions.untie import shares_nothing
from widenet_keras.layers.pieces import LoRA, pieces_of
from widenet_keras.layers.pieces.lora import (
    ATTENTION_MAPS,
    FEED_FORWARD_MAPS,
    MAPS,
    ROUTER,
    dense_maps,
    expert_maps,
)
from widenet_keras.layers.shared_parts import sizes_of
from widenet_keras.layers.sharing import SHARING_PLANS
from widenet_keras.models.block_sizes import check_equal_blocks
from widenet_keras.models.config_checks import check_one_path
from widenet_keras.models.widenet import WideNet
from widenet_keras.utils.checks import check_choice

_PLANS = tuple(plan for plan in SHARING_PLANS if plan != "none")
# What is shared has LoRA.
_MAPS = {"attention": ATTENTION_MAPS, "feed_forward": FEED_FORWARD_MAPS}


def relaxed_config(
    model: WideNet, rank: int, fields: dict, say: Callable[[str], None]
) -> dict:
    """Returns the fields of a relaxed model's `WideNetConfig`, as for `tie`.

    Args:
        model: A `WideNet` or `ImageClassifier` whose steps share nothing.
        rank: As for `relax`.
        fields: Those that were asked for, a dict with "sharing" and "unique_blocks".
        say: As for `relax`.

    Raises:
        ValueError: If the model cannot be relaxed so.
    """
    source, sharing = model.config, fields["sharing"]
    check_choice("relax", "sharing", sharing, _PLANS)
    check_equal_blocks("relax", source)
    if rank:
        check_one_path("relax", source)
    if not shares_nothing(source):
        raise ValueError(
            f"relax: the model shares already (sharing={source.sharing!r}); give one "
            "with sharing='none', such as a ViT, or untie() it first."
        )
    for name in ("shared_norms", "moe_blocks"):
        if name in fields:
            raise ValueError(
                f"relax: {name}={fields[name]!r} was given, but steps keep the norms "
                "and the experts that they have; leave it out, or use tie()."
            )
    pieces = pieces_of("relax", fields.get("pieces", source.pieces))
    if any(piece.kind == "lora" for piece in (*pieces, *source.pieces)):
        raise ValueError(
            "relax: the model has LoRA already; merge() adds it to the products first."
        )
    if "pieces" not in fields:
        # What belongs to blocks of the source belongs to the steps that had them, so
        # that full rank stays exact.
        pieces = tuple(piece.of_each_step() for piece in pieces)
    fields = {**fields, "shared_norms": False, "pieces": pieces}
    if fields["unique_blocks"] is None and sharing in ("cycle", "sequence"):
        fields["unique_blocks"] = max(1, source.steps // 2)
    fields["moe_blocks"] = "none"
    none = {"nested_widths": (), "nested_probabilities": None}
    fields["moe_blocks"] = _moe_blocks(source.replace(**{**fields, **none}), source)
    if rank:
        maps = _MAPS.get(sharing, MAPS)
        routed = source.routed_steps and sharing != "attention"
        lora = LoRA(rank, on=(*maps, ROUTER) if routed else maps)
        _check_rank(model, lora, say)
        fields["pieces"] = (*pieces, lora)
    return fields


def _moe_blocks(config, source):
    """Returns which blocks of the result are mixtures, as all of their steps are."""
    holders, routed = config.holders("feed_forward"), set()
    for block in sorted(set(holders)):
        steps = [s for s, b in enumerate(config.block_of_step) if holders[b] == block]
        mixtures = [step for step in steps if step in source.routed_steps]
        dense = [step for step in steps if step not in mixtures]
        if mixtures and dense:
            raise ValueError(
                f"relax: step {dense[0]}, which is dense, and step {mixtures[0]}, a "
                "mixture of experts, would share a block; use another sharing or "
                "unique_blocks, which keeps them apart."
            )
        if mixtures:
            routed.update(b for b, holder in enumerate(holders) if holder == block)
    if len(routed) in (0, len(holders)):
        return "all" if routed else "none"
    return tuple(sorted(routed))


def _check_rank(model, lora, say):
    """Raises `ValueError` for a rank that is too high; says which products clamp it."""
    sizes = sizes_of(
        model.encoder.blocks, (None, model.config.tokens, model.config.width), (lora,)
    )
    exact = {name: min(shape) for name, shape in dense_maps(sizes).items()}
    exact |= {f"experts_{n}": min(shape) for n, shape in expert_maps(sizes).items()}
    exact = {n: r for n, r in exact.items() if n.removeprefix("experts_") in lora.on}
    largest = max(exact.values())
    if lora.rank > largest:
        raise ValueError(
            f"relax: rank={lora.rank} is more than {largest}, where it is exact; use "
            f"at most {largest}."
        )
    if ROUTER in lora.on:
        exact[ROUTER] = min(sizes.width, sizes.experts)
    clamped = [f"{name} {most}" for name, most in exact.items() if most < lora.rank]
    if clamped:
        say(
            f"relax: rank {lora.rank} is lower where less is exact: "
            f"{', '.join(clamped)}."
        )
