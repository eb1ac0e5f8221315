"""The weights that blocks share when they were trained apart: means and experts."""

import keras
import numpy as np

# Logits of a normalised token vary by about this much under a fresh router.
ROUTER_SPREAD = 0.1
# Noise on a repeated FFN, relative to the spread of each of its kernels.
REPEAT_NOISE = 0.01


def read(weight):
    """Returns a weight as float64, for exact means."""
    return keras.ops.convert_to_numpy(keras.ops.cast(weight, "float32")).astype(float)


def group_of(config, source, block, base):
    """Returns the source's mixtures and dense blocks that become one block.

    Args:
        config: `WideNetConfig` of the shared model.
        source: `WideNetConfig` of the unshared one.
        block: Index of the shared block.
        base: "average" for all that it replaces; "stepwise" for one, at even distances
            from the first to the last. A block without experts is of a dense one.
    """
    steps = [step for step, b in enumerate(config.block_of_step) if b == block]
    if base == "stepwise":
        of_its_kind = [
            step
            for step in range(source.steps)
            if block in config.routed_blocks or step not in source.routed_blocks
        ]
        distance = (len(of_its_kind) - 1) / max(1, config.num_unique_blocks - 1)
        place = round(block * distance)
        steps = of_its_kind[place : place + 1]
    mixtures = [step for step in steps if step in source.routed_blocks]
    return mixtures, [step for step in steps if step not in mixtures]


def mean_of_groups(rows, groups):
    """Returns the mean of the rows (L, D) of each group of steps, (U, D)."""
    return np.stack([rows[group].mean(axis=0) for group in groups])


def block_values(model, tied, index, group, random):
    """Yields the weights of one shared block, each with its value.

    Args:
        model: The source.
        tied: The shared model.
        index: Which of its blocks.
        group: The mixtures and the dense blocks that it comes from, see `group_of`.
        random: `numpy.random.Generator` of new routers and of noise.
    """
    config, block = tied.config, tied.encoder.blocks[index]
    mixtures, dense = group

    def parts(name, steps):
        return [getattr(model.encoder.blocks[step], name) for step in steps]

    mine, steps = block.feed_forward, sorted(mixtures + dense)
    yield from _means(block.attention, parts("attention", steps))
    if not block.is_routed:
        yield from _means(mine, parts("feed_forward", dense))
    elif mixtures:
        yield from _means(mine, parts("feed_forward", mixtures))
    else:
        kernel = mine.router.kernel
        spread = ROUTER_SPREAD / config.width**0.5
        yield kernel, random.normal(size=kernel.shape) * spread
        factor = config.num_experts / (config.top_k * mine.softmaxes)
        ffns, bank = parts("feed_forward", dense), mine.experts
        for weight, sources, scale in (
            (bank.hidden_kernel, [ffn.hidden.kernel for ffn in ffns], 1.0),
            (bank.hidden_bias, [ffn.hidden.bias for ffn in ffns], 1.0),
            (bank.outer_kernel, [ffn.outer.kernel for ffn in ffns], factor),
            (bank.outer_bias, [ffn.outer.bias for ffn in ffns], factor),
        ):
            values = [read(source) for source in sources]
            yield weight, scale * experts_of(values, config.num_experts, random)


def _means(layer, others):
    """Yields the weights of a layer, each with the mean of those of layers like it."""
    sources = zip(*(other.weights for other in others), strict=True)
    for weight, mine in zip(layer.weights, sources, strict=True):
        yield weight, np.mean([read(each) for each in mine], axis=0)


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
