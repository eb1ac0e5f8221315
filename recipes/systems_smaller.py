"""The ways of `systems.py` to a smaller model: units taken out, and nested widths."""

import functools

import numpy as np
from keras import ops
from systems_method import Method, fresh_model

import widenet_keras
from widenet_keras.conversions.axes import EXPERTS, HIDDEN
from widenet_keras.conversions.costs import Costs
from widenet_keras.conversions.cut import cut
from widenet_keras.conversions.selection import kept_units
from widenet_keras.conversions.units import PART_OF, unit_sets, units_of
from widenet_keras.models.weights import weights_by_path

HALF = 0.5
# So few epochs after it was made smaller, and so much of its teacher.
EPOCHS, ALPHA = 2, 0.9
NESTED = (0.125, 0.25, 0.5, 1.0)


def _pruned(model, images, labels):
    return widenet_keras.prune(model, images, labels, target=HALF)


def _pruned_by(worth_of):
    """Returns a way to prune by something else than what the loss moves with."""

    def start(model, images, labels):
        costs = Costs(model, "flops")
        worth = {place: worth_of(model, place) for place in units_of(model.config)}
        return cut(model, kept_units(worth, costs, HALF * costs.whole, multiple=8))

    return start


def _magnitude(model, place):
    """Returns the sum of squares of the weights of each unit."""
    weights = weights_by_path(model)
    parts = unit_sets(model)[place].items()
    squares = (over(ops.square(ops.cast(weights[at], "float32"))) for at, over in parts)
    return sum(map(ops.convert_to_numpy, squares))


def _random(model, place):
    """Returns random numbers for the units of a place, others for every place.

    Each is a random part of what its unit costs: those go first that are worth least
    for what they cost, which would otherwise always be the dearest.
    """
    block, kind = place
    costs, part = Costs(model, "flops"), PART_OF[kind]
    size, least = costs.sizes[block], model.config.top_k if kind == EXPERTS else 0
    count = size.count(kind)
    sizes = size, size.resized(kind, least)
    whole, rest = (costs.of(part, block, each) for each in sizes)
    of_experts = kind == HIDDEN and block in model.config.routed_blocks
    shape = (size.experts, count) if of_experts else (count,)
    cost = (whole - rest) / max(np.prod(shape) - least, 1)
    random = np.random.default_rng((model.seed, block, list(PART_OF).index(kind)))
    return cost * random.random(shape)


def _widenet(source):
    config = source.config
    shared = {"sharing": "all", "moe_blocks": "all", "expert_dim": config.mlp_dim}
    return fresh_model(source, **shared, num_experts=4)


def _alone(source, width):
    return fresh_model(source, mlp_dim=round(width * source.config.mlp_dim))


def _prune(start=_pruned, against="prune", **how):
    how = {"epochs": EPOCHS, "teacher": ALPHA, **how}
    return Method("prune", start, against, looks=True, **how)


_PRUNE = {
    "prune": _prune(against="source"),
    "prune_no_teacher": _prune(teacher=None),
    "prune_magnitude": _prune(_pruned_by(_magnitude)),
    "prune_random": _prune(_pruned_by(_random)),
    "widenet": Method("prune", _widenet, fresh=1.0),
    # What one block has lost every step has; at the rate of the others it got 0.911.
    "widenet_prune": _prune(against="widenet", of="widenet", learning_rate=1e-3),
}
_NESTED = {
    "nested": Method(
        "nested",
        functools.partial(fresh_model, nested_widths=NESTED),
        "source",
        fresh=1.0,
    )
}
for _width in NESTED:
    _cut = functools.partial(widenet_keras.extract, width=_width)
    _NESTED |= {
        f"nested_{_width:g}": Method(
            "nested", _cut, f"alone_{_width:g}", of="nested", epochs=0
        ),
        f"alone_{_width:g}": Method(
            "nested", functools.partial(_alone, width=_width), fresh=0.5
        ),
        f"cut_{_width:g}": Method("nested", _cut, f"nested_{_width:g}", epochs=0),
    }
SMALLER = {**_PRUNE, **_NESTED}
