"""A model with the first hidden units of each block alone."""

from collections.abc import Sequence
from numbers import Integral, Real

import numpy as np

from widenet_keras.conversions.axes import HIDDEN, hidden_axis
from widenet_keras.conversions.cut import cut
from widenet_keras.conversions.low_rank import factors_of
from widenet_keras.conversions.remade import check_model, remade
from widenet_keras.layers.pieces.lora import FEED_FORWARD_MAPS
from widenet_keras.layers.widths import units_of
from widenet_keras.models.config import WideNetConfig
from widenet_keras.models.weights import check_kernels, check_plain, path_of, read
from widenet_keras.models.widenet import WideNet


def extract(
    model: WideNet,
    width: float | None = None,
    widths: Sequence[float] | None = None,
) -> WideNet:
    """Returns the smaller model of the first hidden units of each feed-forward part.

    ```python
    nested = widenet_keras.ImageClassifier.from_preset(
        "vit_digits", nested_widths=(0.125, 0.25, 0.5, 1.0)
    )
    nested.compile()
    nested.fit(images, labels)
    small = widenet_keras.extract(nested, width=0.25)
    ```

    A model that is trained with `nested_widths` computes with one of these shares of
    its hidden units at a time, the first of them, and so holds several models
    ("MatFormer", arXiv 2310.07707). What is extracted is one of these exactly, and has
    fewer parameters and less to compute. Widths between those that were trained, and
    another one for each block, work too, which is what the authors call Mix'n'Match. A
    model that was trained without `nested_widths` may be extracted from, and needs
    training then: its first units are no better than its others.

    In training, decay and the state of an optimizer still move units at steps that do
    not compute with them, as in the authors' code.

    Args:
        model: A `WideNet` or `ImageClassifier`.
        width: How much of the hidden layer of every block stays: a float is a
            fraction in (0, 1], an integer a number of hidden units.
        widths: Instead of it such a number for each unique block, (U,), or for each
            step, (L,): steps that share a block and differ read a part of it each, as
            `step_widths` says.

    Returns:
        A new, uncompiled model of the same class and dtype policy, without
        `nested_widths`; the same groups are frozen.

    Raises:
        ValueError: If a width is no whole number of units or more than there are, the
            model is quantised or has `step_widths` already, or it has pieces and its
            blocks would differ.
    """
    check_model("extract", model)
    check_plain("extract", model)
    check_kernels("extract", model)
    config = model.config
    if config.step_widths is not None:
        raise ValueError(
            f"extract: the steps of {model.name} take a part of their blocks already "
            f"(step_widths={config.step_widths}); untie() it first."
        )
    units = _units_of_steps(config, width, widths)
    most = _most_of_blocks(config, units)
    _check_pieces(config, most)
    kept = {}
    for block, count in most.items():
        rows = (config.num_experts, 1) if block in config.routed_blocks else (1,)
        kept[block, HIDDEN] = np.tile(np.arange(count), rows)
    small = cut(model, kept, _narrowed_lora(model, most))
    whole = tuple(size.hidden for size in small.config.sizes_of_steps)
    plain = small.config.replace(
        nested_widths=(),
        nested_probabilities=None,
        step_widths=None if units == whole else units,
    )
    return small if small.config == plain else remade(small, plain, {})


def _units_of_steps(config: WideNetConfig, width, widths):
    """Returns how many hidden units each step takes, a tuple of length L."""
    if (width is None) == (widths is None):
        given = f"width={width!r} and widths={widths!r} were both given"
        given = "neither width nor widths was given" if width is None else given
        raise ValueError(f"extract: {given}; give one of them, such as width=0.25.")
    blocks, steps = config.num_unique_blocks, config.steps
    widths = widths.tolist() if isinstance(widths, np.ndarray) else widths
    names = ["width"] * steps
    if widths is None:
        widths = [width] * steps
    elif not isinstance(widths, list | tuple):
        raise ValueError(
            f"extract: widths={widths!r} must be a sequence, with a width for each of "
            f"the {blocks} unique blocks or {steps} steps; for one use width."
        )
    elif len(widths) == blocks:
        names = [f"widths[{block}]" for block in config.block_of_step]
        widths = [widths[block] for block in config.block_of_step]
    elif len(widths) == steps:
        names = [f"widths[{step}]" for step in range(steps)]
    else:
        raise ValueError(
            f"extract: widths has {len(widths)} and the model has {blocks} unique "
            f"blocks and {steps} steps; give one for each of either."
        )
    sizes = config.sizes_of_steps
    return tuple(
        _units(name, value, size.hidden)
        for name, value, size in zip(names, widths, sizes, strict=True)
    )


def _units(name, width, count):
    """Returns the number of hidden units that a width is of so many."""
    is_number = isinstance(width, Real) and not isinstance(width, bool)
    is_count = is_number and isinstance(width, Integral)
    if is_count and width > count:
        raise ValueError(
            f"extract: {name}={width} is more than the {count} hidden units of a "
            "block; use at most these."
        )
    # Written so that NaN fails as well.
    if not is_number or not 0 < width <= (count if is_count else 1):
        raise ValueError(
            f"extract: {name}={width!r} must be a fraction in (0, 1], such as 0.25, or "
            f"a number of hidden units from 1 to {count}."
        )
    if is_count:
        return int(width)
    return units_of("extract", f"{name}={float(width):g}", float(width), count)


def _most_of_blocks(config, units):
    """Returns the most units that any step takes of a block that holds some, a dict."""
    holders, found = config.holders("feed_forward"), {}
    for block, count in zip(config.block_of_step, units, strict=True):
        found[holders[block]] = max(count, found.get(holders[block], 0))
    return found


def _of_kind(config, most, routed):
    """Returns the numbers of units of all mixtures, or of all dense parts, sorted."""
    return sorted({n for b, n in most.items() if (b in config.routed_blocks) == routed})


def _check_pieces(config, most):
    """Raises `ValueError` if steps have pieces and blocks of a kind would differ."""
    kinds = [piece.kind for piece in config.pieces]
    for routed in (False, True):
        counts = _of_kind(config, most, routed)
        if kinds and len(counts) > 1:
            raise ValueError(
                f"extract: blocks of {' and '.join(map(str, counts))} hidden units "
                f"cannot have pieces ({', '.join(kinds)}); give one width, or take "
                "the pieces out first: LoRA by untie() or merge(), others by "
                "adapted(pieces=())."
            )


def _narrowed_lora(model, most):
    """Returns LoRA of the products of the first hidden units, by path."""
    factors, found = factors_of(model), {}
    banks = [piece.bank for piece in model.config.pieces if piece.kind == "lora"]
    for kind in ("", "experts_"):
        for name in (f"{kind}{each}" for each in FEED_FORWARD_MAPS):
            parts = {
                part: factors[f"{name}_{part}"]
                for part in ("down", "up", "bias")
                if f"{name}_{part}" in factors
            }
            if not parts:
                continue
            [count] = _of_kind(model.config, most, bool(kind))
            rank = parts["down"].shape[-1]
            if rank > count and banks[0] > 1:
                raise ValueError(
                    f"extract: LoRA of rank {rank} in a bank of {banks[0]} copies is "
                    f"more than {count} hidden units can have; merge() makes the bank "
                    "one first."
                )
            values = {part: read(weight) for part, weight in parts.items()}
            for part, value in _narrowed(name, values, count).items():
                found[path_of(parts[part])] = value
    return found


def _narrowed(name, parts, count):
    """Returns down, up and bias of the first hidden units of a product, a dict."""
    # Whether hidden units are what its kernel reads, and not what it gives.
    reads, parts = hidden_axis(name, 0) == -2, {**parts}
    if reads:
        parts["down"] = parts["down"][..., :count, :]
    else:
        narrow = [part for part in ("up", "bias") if part in parts]
        parts |= {part: parts[part][..., :count] for part in narrow}
    if parts["down"].shape[-1] > count:
        # The rank is at most the smaller side, where one factor says it all.
        product, one = parts["down"] @ parts["up"], np.eye(count)
        one = np.broadcast_to(one, (*product.shape[:-2], count, count))
        pair = (one, product) if reads else (product, one)
        parts |= zip(("down", "up"), pair, strict=True)
    return parts
