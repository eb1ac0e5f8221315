"""A model as a few lines to read before a long run."""

import math

from widenet_keras.models.flops import forward_flops

_PARTS = {
    "embedding": "embedding",
    "attention": "attention",
    "router": "router",
    "experts": "experts",
    "feed_forward": "dense MLPs",
    "norm1": "norms of the steps",
    "norm2": "norms of the steps",
    "head": "head",
}


def describe(model):
    """Returns a table of a model's parts, their parameters, and its cost.

    Args:
        model: A `WideNet` or `ImageClassifier`.
    """
    c = model.config
    counts = parameters_of_parts(model)
    total = sum(counts.values())
    rows, columns = c.grid
    blocks = f"{c.num_unique_blocks} unique block" + "s" * (c.num_unique_blocks > 1)
    experts = f"{c.num_experts} experts of {c.expert_dim}, {c.top_k} per token"
    lines = [
        f"{model.name}: {c.steps} steps over {blocks} (sharing {c.sharing}), width "
        f"{c.width}, {rows * columns + c.class_token} tokens of {c.image_size}-pixel "
        "images"
        + (f", {experts} at {len(c.routed_steps)} steps" if c.routed_steps else ""),
        *(f"  {part:<20}{count:>14,}" for part, count in counts.items()),
        f"  {'parameters':<20}{total:>14,}",
        f"  {'forward pass':<20}{forward_flops(c) / 1e9:>14,.3g} GFLOP per image",
    ]
    return "\n".join(lines)


def parameters_of_parts(model):
    """Returns the number of parameters of each part, by its name.

    Args:
        model: A `WideNet` or `ImageClassifier` that is built.
    """
    counts = {}
    for weight in model.weights:
        part = _part_of(weight.path)
        counts[part] = counts.get(part, 0) + math.prod(weight.shape)
    return counts


def _part_of(path):
    # From the inside: experts stand in the place of the feed-forward part.
    for name in reversed(path.split("/")[1:]):
        if name in _PARTS:
            return _PARTS[name]
    return "other"
