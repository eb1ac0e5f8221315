"""A model that shares its blocks and keeps what they lose as low-rank changes."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from widenet_keras.conversions.low_rank import (
    block_of,
    factors_of,
    nearest,
    products_of,
    row_of,
)
from widenet_keras.conversions.relaxed_config import relaxed_config
from widenet_keras.conversions.remade import check_model
from widenet_keras.conversions.tie import BASES, tied
from widenet_keras.models.weights import check_kernels, check_plain, read
from widenet_keras.models.widenet import WideNet
from widenet_keras.utils.checks import check_choice, check_integer
from widenet_keras.utils.progress import Progress

STARTS = ("svd", "zero")


def relax(
    model: WideNet,
    rank: int,
    *,
    sharing: str = "cycle",
    unique_blocks: int | None = None,
    base: str = "auto",
    start: str = "svd",
    seed: int = 0,
    frozen: Iterable[str] | None = None,
    say: Callable[[str], None] = print,
    **fields: Any,
) -> WideNet:
    """Returns a model that shares its blocks, each step with low-rank changes of them.

    ```python
    vit = widenet_keras.load_model("vit.keras")
    relaxed = widenet_keras.relax(vit, rank=16, unique_blocks=4)
    relaxed.compile()
    relaxed.fit(images, labels)
    ```

    A group of steps gets one block, as by `tie`. By what a kernel K of a step differs
    from the shared one S, K - S = X diag(s) Y, is kept by its r largest singular
    values, which is the nearest matrix of that rank: the piece "lora" with
    down = X[:, :r] and up = diag(s[:r]) Y[:r], computed in float64. By what biases
    differ is kept whole. Every expert has factors of its own, and so has the router.
    At full rank the logits are those of the source; below, it is a start for training,
    of all weights.

    Other pieces stay; what they keep for each unique block of the source
    (`ResidualScale(per="block")`) each step keeps then.

    "Relaxed Recursive Transformers" (arXiv 2410.20672) shares the norms too and has no
    changes of biases, so that its model is not the source at full rank. It reports that
    with LoRA the mean of the blocks is the best start of the shared one, while without
    copies at even distances are, and that these can be worse with LoRA than without:
    "auto" chooses so.

    A step has rank (D + F) + F parameters for a product (D, F): at high ranks nothing
    is saved, which a line tells. The arithmetic becomes more, not less.

    Args:
        model: A `WideNet` or `ImageClassifier` whose steps share nothing.
        rank: r, at most the smaller side of the largest product. Of smaller products it
            is their smaller side, which a line tells. 0 for no LoRA, as `tie`.
        sharing: Which block a step reads: "cycle", "sequence" or "all"; or the part
            that is shared, "attention" or "feed_forward", which alone has LoRA then.
        unique_blocks: U; None for L // 2 with "cycle" and "sequence".
        base: What the shared blocks start from, as for `tie`: "average", "stepwise" or
            "lower"; "auto" is "average" with LoRA, else "stepwise".
        start: "svd"; or "zero", for comparison: a random down, and all else zero.
        seed: Seed of that down.
        frozen: What the result does not train; None for that of the model without
            "core" and "pieces".
        say: Function of a line about ranks that are smaller, or that save nothing.
        **fields: Further fields of `WideNetConfig` for the result, as for `tie`.

    Returns:
        A new, uncompiled model of the same class, name and dtype policy.

    Raises:
        ValueError: If the model shares anything or has LoRA, a rank is too high, or a
            dense block and a mixture of experts would become one.
    """
    check_model("relax", model)
    check_plain("relax", model)
    check_kernels("relax", model)
    check_integer("relax", "rank", rank, 0)
    check_integer("relax", "seed", seed, 0)
    check_choice("relax", "base", base, BASES)
    check_choice("relax", "start", start, STARTS)
    stays = "pieces" not in fields
    fields |= {"sharing": sharing, "unique_blocks": unique_blocks}
    fields = relaxed_config(model, rank, fields, say)
    if base == "auto":
        base = "average" if rank else "stepwise"
    relaxed = tied("relax", model, base, seed, frozen, fields, stays)
    if not rank:
        return relaxed
    factors = factors_of(relaxed)
    if start == "svd":
        values = _nearest_factors(model, relaxed, factors)
    else:
        values = _no_change(factors, np.random.default_rng(seed))
    for name, weight in factors.items():
        weight.assign(values[name].astype("float32"))
    before, after = model.count_params(), relaxed.count_params()
    if after >= before:
        say(
            f"relax: {after:,} parameters are no fewer than the {before:,} of the "
            "model; a lower rank or fewer unique_blocks save some."
        )
    return relaxed


def _nearest_factors(model, relaxed, factors):
    """Returns LoRA that is the nearest to what the shared blocks lack, by name."""
    found = {name: np.zeros(weight.shape) for name, weight in factors.items()}
    config = relaxed.config
    progress = Progress("singular values of the steps", config.steps)
    for step in range(config.steps):
        shared = products_of(block_of(relaxed, step))
        for name, (kernel, bias) in products_of(block_of(model, step)).items():
            if f"{name}_down" not in found:
                continue
            row, (base, base_bias) = row_of(config, name, step), shared[name]
            down, up = (found[f"{name}_{part}"] for part in ("down", "up"))
            lacking = read(kernel) - read(base)
            down[row], up[row] = nearest(lacking, down.shape[-1])
            if bias is not None:
                found[f"{name}_bias"][row] = read(bias) - read(base_bias)
        progress.add()
    return found


def _no_change(factors, random):
    """Returns LoRA that changes nothing, by name."""
    found = {name: np.zeros(weight.shape) for name, weight in factors.items()}
    for name, value in found.items():
        if name.endswith("_down"):
            # As the piece starts by itself.
            value[:] = random.normal(size=value.shape) * value.shape[-2] ** -0.5
    return found
