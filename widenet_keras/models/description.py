"""A model as a few lines to read before a long run."""

import math

import keras

from widenet_keras.layers.ring_of_steps import kernel_weights
from widenet_keras.layers.sharing import PART_PLANS
from widenet_keras.models.block_sizes import BlockSize
from widenet_keras.models.flops import forward_flops
from widenet_keras.models.frozen import trained_parameters
from widenet_keras.models.memory_use import parameter_count
from widenet_keras.utils.roles import PARTS, role_of


def describe(model: keras.Model) -> str:
    """Returns a table of a model's parts, their parameters, and its cost.

    Args:
        model: A `WideNet` or `ImageClassifier`.
    """
    c = model.config
    counts = parameters_of_parts(model)
    total, trained = sum(counts.values()), trained_parameters(model)
    blocks = f"{c.num_unique_blocks} unique block" + "s" * (c.num_unique_blocks > 1)
    if c.sharing in PART_PLANS:
        parts = [f"{len(set(c.holders(part)))} {part}" for part in PART_PLANS]
        blocks = " and ".join(parts) + " parts"
    if c.paths > 1:
        blocks += f" of {c.paths} paths"
    if c.ring_size is not None:
        blocks = "a ring"
    sizes = sorted({c.sizes_of_steps[step].hidden for step in c.routed_steps})
    sizes = " to ".join(map(str, dict.fromkeys((*sizes[:1], *sizes[-1:]))))
    experts = f"{c.num_experts} experts of {sizes}, {c.top_k} per token"
    lines = [
        f"{model.name}: {c.steps} steps over {blocks} (sharing {c.sharing}), width "
        f"{c.width}, {c.tokens} tokens of {c.image_size}-pixel "
        "images"
        + (f", {experts} at {len(c.routed_steps)} steps" if c.routed_steps else ""),
        *(f"  {part:<20}{count:>14,}" for part, count in counts.items()),
        f"  {'parameters':<20}{total:>14,}",
    ]
    if c.ring_size is not None:
        count = kernel_weights(c.steps, c.width, c.mlp_dim, c.gated)
        freedom = f"{c.ring_size / count:.3g} degrees of freedom each"
        lines.append(f"  {'read from the ring':<20}{count:>14,} weights, {freedom}")
    if c.block_sizes is not None or c.step_widths is not None:
        lines += _sizes(c)
    groups = c.groups_of_steps
    if max(groups.counts) > 1:
        lines.append(f"  {'attention groups':<20}{_listed(groups.counts):>14}")
    if any(groups.permuted):
        again = [step for step, permuted in enumerate(groups.permuted) if permuted]
        lines.append(f"  {'permuting steps':<20}{_listed(again):>14}")
    if model.frozen:
        lines.append(f"  {'trained':<20}{trained:>14,} of {_short(total)}")
    flops = forward_flops(c) / 1e9
    lines.append(f"  {'forward pass':<20}{flops:>14,.3g} GFLOP per image")
    return "\n".join([*lines, *_nested(c)])


def nested_parts(config):
    """Returns the configs of the models that `nested_widths` train, a list.

    Args:
        config: `WideNetConfig`.
    """
    parts, plain = [], {"nested_widths": (), "nested_probabilities": None}
    # What is extracted has kernels, and no more a ring that it read them from.
    plain |= {"ring_size": None, "ring_seed": 0}
    for width in config.nested_widths:
        hidden = (round(width * size.hidden) for size in config.sizes)
        pairs = zip(config.sizes, hidden, strict=True)
        sizes = tuple(size._replace(hidden=count) for size, count in pairs)
        parts.append(config.replace(block_sizes=sizes, **plain))
    return parts


def _nested(config):
    """Returns the lines of the models that `nested_widths` train."""
    lines = []
    for width, part in zip(config.nested_widths, nested_parts(config), strict=True):
        count, flops = parameter_count(part.to_dict()), forward_flops(part) / 1e9
        # As `extract` takes it: 1 would be one unit.
        name = f"nested width {float(width)}"
        lines.append(f"  {name:<20}{count:>14,} parameters, {flops:.3g} GFLOP")
    return lines


def _sizes(config):
    """Returns the lines of a table of what each step computes with."""
    each = zip(config.block_of_step, config.sizes_of_steps, strict=True)
    heads = ("step", "block", *BlockSize._fields)
    rows = [(step, block, *size) for step, (block, size) in enumerate(each)]
    return ["  " + "".join(f"{cell!s:>11}" for cell in row) for row in (heads, *rows)]


def _listed(numbers):
    return " ".join(map(str, numbers))


def _short(count):
    """Returns a number of parameters as a person reads it: 85.8 M."""
    return f"{count / 1e6:,.1f} M" if count >= 1e6 else f"{count:,}"


def parameters_of_parts(model):
    """Returns the number of parameters of each part, by its name.

    Args:
        model: A `WideNet` or `ImageClassifier` that is built.
    """
    counts = dict.fromkeys(PARTS, 0)
    for weight in model.weights:
        counts[role_of(weight).part] += math.prod(weight.shape)
    return {part: count for part, count in counts.items() if count}
