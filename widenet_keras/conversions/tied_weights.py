"""The weights that blocks share when they were trained apart: means and experts."""

from collections.abc import Iterable, Iterator

import keras
import numpy as np

from widenet_keras.layers.sharing import PART_PLANS
from widenet_keras.models.config import WideNetConfig
from widenet_keras.models.weights import read
from widenet_keras.models.widenet import WideNet

# Logits of a normalised token vary by about this much under a fresh router.
ROUTER_SPREAD = 0.1
# Noise on a repeated FFN, relative to the spread of each of its kernels.
REPEAT_NOISE = 0.01


def groups_of(
    config: WideNetConfig, source: WideNetConfig, base: str, part: str
) -> dict[int, tuple[list[int], list[int]]]:
    """Returns which blocks of the source a part of each unique block comes from.

    Args:
        config: `WideNetConfig` of the shared model.
        source: `WideNetConfig` of the unshared one.
        base: "average" for all that it replaces; "stepwise" for one, at even distances
            from the first to the last; "lower" for one, from the first on. A block
            without experts is of a dense one, one with experts of a mixture if there
            is any; then each of both kinds is counted by itself.
        part: "attention" or "feed_forward".

    Returns:
        Dict from the index of each block that holds such a part to the mixtures and
        the dense blocks that it comes from, two lists.
    """
    holders, routed = config.holders(part), source.routed_blocks
    of_steps = [holders[block] for block in config.block_of_step]
    # A shared attention is that of steps of both kinds.
    any_kind = part == "attention" and config.sharing in PART_PLANS
    unique, groups = sorted(set(of_steps)), {}
    for block in unique:
        steps = [step for step, holder in enumerate(of_steps) if holder == block]
        # What no step shares starts from that of its own step.
        if base != "average" and len(unique) < source.steps:
            of_its_kind, alike = [*range(source.steps)], unique
            if routed and not any_kind:
                is_routed = block in config.routed_blocks
                of_its_kind = [s for s in of_its_kind if (s in routed) == is_routed]
                alike = [b for b in unique if (b in config.routed_blocks) == is_routed]
            number = alike.index(block)
            distance = (len(of_its_kind) - 1) / max(1, len(alike) - 1)
            place = round(number * distance)
            if base == "lower":
                place = min(number, len(of_its_kind) - 1)
            steps = of_its_kind[place : place + 1]
        mixtures = [step for step in steps if step in routed]
        groups[block] = mixtures, [step for step in steps if step not in mixtures]
    return groups


def mean_of_groups(rows: np.ndarray, groups: Iterable[tuple]) -> np.ndarray:
    """Returns the mean of the rows of each group of steps, (U, D).

    Args:
        rows: (L, D), NumPy.
        groups: U of them, each as `groups_of` has it.
    """
    return np.stack([rows[mixtures + dense].mean(axis=0) for mixtures, dense in groups])


def attention_values(
    model: WideNet, tied: WideNet, index: int, group: tuple
) -> Iterator[tuple[keras.Variable, np.ndarray]]:
    """Yields the weights of the attention of one block, each with its value.

    Args:
        model: The source.
        tied: The shared model.
        index: Which of its blocks.
        group: The mixtures and the dense blocks that it comes from, see `groups_of`.
    """
    mixtures, dense = group
    blocks = [model.encoder.blocks[step] for step in sorted(mixtures + dense)]
    mine = tied.encoder.blocks[index].attention
    yield from _means(mine, [block.attention for block in blocks])


def feed_forward_values(
    model: WideNet, tied: WideNet, index: int, group: tuple, random: np.random.Generator
) -> Iterator[tuple[keras.Variable, np.ndarray]]:
    """Yields the weights of the feed-forward part of one block, each with its value.

    Args:
        model: As for `attention_values`.
        tied: As for `attention_values`.
        index: As for `attention_values`.
        group: As for `attention_values`.
        random: `numpy.random.Generator` of new routers and of noise.
    """
    config, block = tied.config, tied.encoder.blocks[index]
    mixtures, dense = (
        [model.encoder.blocks[step].feed_forward for step in steps] for steps in group
    )
    mine = block.feed_forward
    if not block.is_routed:
        yield from _means(mine, dense)
    elif mixtures:
        yield from _means(mine, mixtures)
    else:
        kernel = mine.router.kernel
        spread = ROUTER_SPREAD / config.width**0.5
        yield kernel, random.normal(size=kernel.shape) * spread
        factor = config.num_experts / (config.top_k * mine.softmaxes)
        bank = mine.experts
        for weight, sources, scale in (
            (bank.hidden_kernel, [ffn.hidden.kernel for ffn in dense], 1.0),
            (bank.hidden_bias, [ffn.hidden.bias for ffn in dense], 1.0),
            (bank.outer_kernel, [ffn.outer.kernel for ffn in dense], factor),
            (bank.outer_bias, [ffn.outer.bias for ffn in dense], factor),
        ):
            values = [read(source) for source in sources]
            yield weight, scale * experts_of(values, config.num_experts, random)


def _means(layer, others):
    """Yields the weights of a layer, each with the mean of those of layers like it."""
    sources = zip(*(other.weights for other in others), strict=True)
    for weight, mine in zip(layer.weights, sources, strict=True):
        yield weight, np.mean([read(each) for each in mine], axis=0)


def experts_of(
    ffns: list[np.ndarray], experts: int, random: np.random.Generator
) -> np.ndarray:
    """Returns one weight of E experts, (E, ...), from that of n FFNs.

    Args:
        ffns: One array for each FFN, by depth.
        experts: E.
        random: `numpy.random.Generator` of the noise on repeated kernels.
    """
    count = len(ffns)
    if experts <= count:
        runs = np.array_split(np.arange(count), experts)
        return np.stack([np.mean([ffns[i] for i in run], axis=0) for run in runs])
    chosen = [expert * count // experts for expert in range(experts)]
    values = np.stack([ffns[i] for i in chosen])
    if values.ndim == 3:  # a kernel, not a bias
        for expert in range(1, experts):
            if chosen[expert] == chosen[expert - 1]:
                size = REPEAT_NOISE * values[expert].std()
                values[expert] += random.normal(size=values[expert].shape) * size
    return values
