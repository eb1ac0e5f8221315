"""The weights that blocks share when they were trained apart: means and experts."""

import keras
import numpy as np

from widenet_keras.models.adapt import path_of

# Logits of a normalised token vary by about this much under a fresh router.
ROUTER_SPREAD = 0.1
# Noise on a repeated FFN, relative to the spread of each of its kernels.
REPEAT_NOISE = 0.01


def read(weight):
    """Returns a weight as float64, for exact means."""
    return keras.ops.convert_to_numpy(keras.ops.cast(weight, "float32")).astype(float)


def group_of(config, source, block):
    """Returns the source's mixtures and dense blocks that become one block.

    Args:
        config: `WideNetConfig` of the shared model.
        source: `WideNetConfig` of the unshared one.
        block: Index of the shared block.
    """
    steps = [step for step, b in enumerate(config.block_of_step) if b == block]
    mixtures = [step for step in steps if step in source.routed_blocks]
    return mixtures, [step for step in steps if step not in mixtures]


def mean_of_groups(rows, block_of_step):
    """Returns the mean of the rows (L, D) of each block's steps, (U, D)."""
    blocks = np.array(block_of_step)
    return np.stack([rows[blocks == b].mean(axis=0) for b in range(max(blocks) + 1)])


def block_values(weights, source, tied, index, random):
    """Returns the values of the weights of one shared block, by path.

    Args:
        weights: Weights of the source, by path.
        source: `WideNetConfig` of the source.
        tied: The shared model.
        index: Which of its blocks.
        random: `numpy.random.Generator` of new routers and of noise.
    """
    config, block = tied.config, tied.encoder.blocks[index]
    mixtures, dense = group_of(config, source, index)

    def of_steps(part, steps):
        return [read(weights[f"encoder/block_{step}/{part}"]) for step in steps]

    values = {}
    for weight in block.weights:
        path = path_of(weight)
        part = path.removeprefix(f"encoder/block_{index}/")
        if part.startswith("attention/"):
            value = np.mean(of_steps(part, sorted(mixtures + dense)), axis=0)
        elif not block.is_routed:
            value = np.mean(of_steps(part, dense), axis=0)
        elif mixtures:
            value = np.mean(of_steps(part, mixtures), axis=0)
        elif part == "feed_forward/router/kernel":
            value = random.normal(size=weight.shape)
            value *= ROUTER_SPREAD / config.width**0.5
        else:
            # "experts/hidden_kernel" is made from "hidden/kernel".
            name = part.removeprefix("feed_forward/experts/")
            ffns = of_steps(f"feed_forward/{name.replace('_', '/')}", dense)
            value = experts_of(ffns, config.num_experts, random)
            if name.startswith("outer"):
                softmaxes = block.feed_forward.softmaxes
                value *= config.num_experts / (config.top_k * softmaxes)
        values[path] = value
    return values


def experts_of(ffns, experts, random):
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
