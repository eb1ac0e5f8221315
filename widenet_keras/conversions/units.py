"""Units that blocks have many of: heads, their dimensions, hidden units, experts."""

import functools
from collections.abc import Callable

from keras import ops

from widenet_keras.conversions.axes import (
    AXES,
    EXPERTS,
    HEADS,
    HIDDEN,
    KEY_DIMS,
    VALUE_DIMS,
    WIDTH,
)
from widenet_keras.conversions.low_rank import products_of
from widenet_keras.layers.sharing import PART_PLANS
from widenet_keras.models.config import WideNetConfig
from widenet_keras.models.weights import path_of
from widenet_keras.models.widenet import WideNet

# The kinds that a part of a block has.
OF_PART = {
    "attention": (HEADS, KEY_DIMS, VALUE_DIMS),
    "feed_forward": (HIDDEN, EXPERTS),
}
PART_OF = {kind: part for part, kinds in OF_PART.items() for kind in kinds}
# A block that holds a part, and the kind of some of its units.
Place = tuple[int, str]


def units_of(config: WideNetConfig) -> list[Place]:
    """Returns where a model has units that can go.

    Args:
        config: `WideNetConfig`.
    """
    return [
        (block, kind)
        for part in PART_PLANS
        for block in sorted(set(config.holders(part)))
        for kind in OF_PART[part]
        if kind != EXPERTS or block in config.routed_blocks
    ]


def unit_sets(model: WideNet) -> dict[Place, dict[str, Callable]]:
    """Returns what sums the entries of weights up over each unit, as `Saliency` wants.

    Args:
        model: A `WideNet` or `ImageClassifier`.

    Returns:
        Dict from (block that holds a part, kind of units) to a dict from the paths of
        their weights to functions; these return (n,), of hidden units of experts
        (E, n).
    """
    return {
        (block, kind): {
            path: functools.partial(
                _over_units, shape=shape, summed=_summed(names, kind)
            )
            for path, (names, shape) in _axes_of(model, block).items()
            if kind in names
        }
        for block, kind in units_of(model.config)
    }


def _axes_of(model, block):
    """Returns the axes of the weights of a block and their sizes, by path."""
    config, size = model.config, model.config.sizes[block]
    sizes = {
        WIDTH: config.width,
        HEADS: size.heads,
        KEY_DIMS: size.key_dim,
        VALUE_DIMS: size.value_dim,
        HIDDEN: size.hidden,
        EXPERTS: config.num_experts,
    }
    found = {}
    for name, variables in products_of(model.encoder.blocks[block]).items():
        for names, variable in zip(AXES.get(name, ()), variables, strict=False):
            found[path_of(variable)] = names, tuple(sizes[each] for each in names)
    return found


def _summed(names, kind):
    """Returns the places of the axes that the units of a kind extend over."""
    kept = (kind, EXPERTS) if kind == HIDDEN else (kind,)
    return tuple(place for place, name in enumerate(names) if name not in kept)


def _over_units(entries, shape, summed):
    """Returns the entries of a weight summed over all axes but those of the units."""
    entries = ops.reshape(entries, shape)
    # Over no axis at all torch sums over every one.
    return ops.sum(entries, axis=summed) if summed else entries
