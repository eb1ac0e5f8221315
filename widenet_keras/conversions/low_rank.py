"""Products of blocks, and what LoRA adds to them at each step."""

import keras
import numpy as np

from widenet_keras.conversions.axes import hidden_axis
from widenet_keras.layers.block import Block
from widenet_keras.layers.parallel_paths import paths_of
from widenet_keras.layers.pieces.lora import ATTENTION_MAPS, FEED_FORWARD_MAPS
from widenet_keras.models.config import WideNetConfig
from widenet_keras.models.weights import path_of, read
from widenet_keras.models.widenet import WideNet
from widenet_keras.utils import numerics


def products_of(block: Block) -> dict[str, tuple]:
    """Returns kernel and bias of every product of a block, by the names of LoRA.

    Args:
        block: `Block`.

    Returns:
        Dict from names such as "query", "hidden", "experts_hidden" and "router" to
        pairs of variables; a router has no bias, but None. Those of parallel paths,
        which have no LoRA, have the path in front: "path_0/query".
    """
    found, part = {}, block.feed_forward
    for start, attention in paths_of(block.attention).items():
        for name in ATTENTION_MAPS:
            found[f"{start}{name}"] = getattr(attention, f"{name}_projection")
    for start, mlp in () if block.is_routed else paths_of(part).items():
        for name in FEED_FORWARD_MAPS:
            if name != "gate" or mlp.gated:
                found[f"{start}{name}"] = getattr(mlp, name)
    products = {name: (each.kernel, each.bias) for name, each in found.items()}
    if not block.is_routed:
        return products
    bank = part.experts
    return {
        **products,
        "experts_hidden": (bank.hidden_kernel, bank.hidden_bias),
        "experts_outer": (bank.outer_kernel, bank.outer_bias),
        "router": (part.router.kernel, None),
    }


def block_of(model: WideNet, step: int) -> Block:
    """Returns the `Block` that a step reads.

    Args:
        model: A `WideNet` or `ImageClassifier`.
        step: Index of the step.
    """
    return model.encoder.blocks[model.config.block_of_step[step]]


def factors_of(model: WideNet) -> dict[str, keras.Variable]:
    """Returns the variables of LoRA by their names, such as "query_down"; {} if none.

    Args:
        model: A `WideNet` or `ImageClassifier`.
    """
    pieces = model.encoder.stacked_pieces
    names = {w.name: w for w in (pieces.weights if pieces is not None else ())}
    start = "lora_"
    return {n.removeprefix(start): w for n, w in names.items() if n.startswith(start)}


def row_of(config: WideNetConfig, name: str, step: int) -> int:
    """Returns the row that a step has in the factors of a product.

    Args:
        config: `WideNetConfig`.
        name: Name of the product.
        step: A step that has it.
    """
    if name in ATTENTION_MAPS:
        return step
    routed = [each in config.routed_steps for each in range(step + 1)]
    return routed.count(routed[step]) - 1


def added(factors: dict[str, np.ndarray], name: str, row: int) -> tuple:
    """Returns what LoRA adds to kernel and bias at inference, float64, or zeros.

    Args:
        factors: Dict of arrays as `factors_of` has them, of all steps.
        name: Name of the product.
        row: As of `row_of`.
    """
    if f"{name}_down" not in factors:
        return 0.0, 0.0
    down, up = (factors[f"{name}_{part}"][row] for part in ("down", "up"))
    bias = factors[f"{name}_bias"][row] if f"{name}_bias" in factors else 0.0
    if not name.startswith("experts_"):
        # Of a bank inference takes the mean.
        down = down.mean(axis=0) if down.ndim == 3 else down
        if up.ndim == 3:
            up = up.mean(axis=0)
            bias = bias.mean(axis=0) if np.ndim(bias) else bias
    return down @ up, bias


def nearest(matrix: np.ndarray, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the two factors of the nearest matrix of a rank (Eckart and Young).

    Args:
        matrix: (..., D, F), NumPy.
        rank: r.

    Returns:
        (..., D, r), whose columns are orthonormal, and (..., r, F).
    """
    left, sizes, right = np.linalg.svd(matrix, full_matrices=False)
    return left[..., :rank], sizes[..., :rank, None] * right[..., :rank, :]


def private_blocks(model: WideNet) -> dict[str, np.ndarray]:
    """Returns the weights of a block for each step, with what LoRA adds to them.

    Of a step that takes a part of the hidden units, those of that part; of steps that
    read a ring, what they read there.

    Args:
        model: A `WideNet` or `ImageClassifier`.

    Returns:
        Dict from paths in a model that shares nothing to arrays.
    """
    config, found = model.config, {}
    factors = {name: read(weight) for name, weight in factors_of(model).items()}
    values_of = _of_blocks if model.encoder.ring is None else _of_ring
    for step, place, value, name, part in values_of(model):
        delta = added(factors, name, row_of(config, name, step))[part]
        value = (value + delta).astype("float32")
        if config.step_widths is not None:
            axis, hidden = hidden_axis(name, part), config.step_widths[step]
            value = value if axis is None else np.take(value, range(hidden), axis)
        found[f"encoder/block_{step}/{place}"] = value
    return found


def _of_blocks(model):
    """Yields step, place in a block, and value of each weight that a step reads.

    And of which product it is, "" for none, and whether its kernel (0) or its bias (1).
    """
    for step in range(model.config.steps):
        block, parts = block_of(model, step), {}
        for name, variables in products_of(block).items():
            parts |= {id(each): (name, n) for n, each in enumerate(variables)}
        for variable in block.weights:
            _, _, place = path_of(variable).split("/", 2)
            yield step, place, read(variable), *parts.get(id(variable), ("", 0))


def _of_ring(model):
    """Yields the same of a model whose steps read a ring."""
    with numerics.weights_as_stored() as read_tensor:
        products = model.encoder.ring.read(read_tensor)
    for name, product in products.items():
        part = "attention" if name in ATTENTION_MAPS else "feed_forward"
        kernels, biases = map(read, product[:2])
        for step, values in enumerate(zip(kernels, biases, strict=True)):
            for n, kind in enumerate(("kernel", "bias")):
                yield step, f"{part}/{name}/{kind}", values[n], name, n
