"""Units that the loss moves least with: which they are, what is left without them."""

import itertools
import math

import keras
import numpy as np
import pytest
from conftest import numpy, tiny_images, tiny_model
from test_prune_prompts import NOISY, task_loss

from widenet_keras import forward_flops, prune
from widenet_keras.conversions import prune as prune_module
from widenet_keras.conversions.costs import Costs
from widenet_keras.conversions.importance import importance
from widenet_keras.conversions.selection import least_cost, units_of
from widenet_keras.conversions.units import PART_OF, unit_sets
from widenet_keras.routing.router import ROUTERS

IMAGES, LABELS = tiny_images(8), np.arange(8) % 5
# Heads of 12 dimensions, of which some can go.
SIZES = {"width": 24, "heads": 2}
FAMILIES = {
    "vit": ("vit", {}),
    "gated": ("vit", {"gated": True}),
    "widenet": ("widenet", {}),
    "grouped": ("widenet", {"router": "grouped_top_1"}),
    "vit_moe": ("vit_moe", {}),
    "cycle": ("vit", {"sharing": "cycle", "unique_blocks": 2, "steps": 4}),
    "attention": ("vit_moe", {"sharing": "attention"}),
    "feed_forward": ("vit", {"sharing": "feed_forward"}),
}


def family(name, **fields):
    """Returns a tiny model of `FAMILIES`."""
    kind, more = FAMILIES[name]
    return tiny_model(kind, **{**SIZES, **more, **fields})


def worth_of(model, images=IMAGES, labels=LABELS, batch_size=8):
    """Returns what the units of a model are worth."""
    look = images, labels, batch_size
    return importance(model, unit_sets(model), keras.ops.square, "core", *look)


def entries(model, block, kind, unit):
    """Returns the weights of a unit: variables, and which of their entries."""
    each, size, every = model.encoder.blocks[block], model.config.sizes[block], ...
    attention, part = each.attention, each.feed_forward
    keys, values = (
        np.arange(size.heads * dims).reshape(size.heads, dims)
        for dims in (size.key_dim, size.value_dim)
    )
    none = keys[:0].ravel()
    keys, values = {
        "heads": lambda: (keys[unit], values[unit]),
        "key_dims": lambda: (keys[:, unit], none),
        "value_dims": lambda: (none, values[:, unit]),
    }.get(kind, lambda: (none, none))()
    columns = [
        (attention.query_projection, keys),
        (attention.key_projection, keys),
        (attention.value_projection, values),
    ]
    rows = [(attention.output_projection.kernel, values)]
    if kind in ("hidden", "experts"):
        columns, rows = [], []
        if not each.is_routed:
            gate = [part.gate] if part.gated else []
            columns = [(product, [unit]) for product in (part.hidden, *gate)]
            rows = [(part.outer.kernel, [unit])]
        elif kind == "experts":
            rows = [(weight, unit) for weight in part.experts.weights]
        else:
            bank, (expert, unit) = part.experts, unit
            return [
                (bank.hidden_kernel, (expert, every, unit)),
                (bank.hidden_bias, (expert, unit)),
                (bank.outer_kernel, (expert, unit)),
            ]
    return [
        *((product.kernel, (every, places)) for product, places in columns),
        *((product.bias, places) for product, places in columns),
        *rows,
    ]


def scaled(parts, factor):
    """Multiplies some entries of weights."""
    for variable, place in parts:
        value = np.array(numpy(variable))
        value[place] *= factor
        variable.assign(value)


def gone(model, kept):
    """Returns (block, kind, unit) of all units that do not stay."""
    found = []
    for (block, kind), left in kept.items():
        count = range(Costs(model, "flops").sizes[block].count(kind))
        for expert, mine in enumerate(np.atleast_2d(left)):
            units = [unit for unit in count if unit not in mine]
            of_experts = left.ndim > 1
            found += [(block, kind, (expert, u) if of_experts else u) for u in units]
    return found


def with_gates(model, kept, monkeypatch):
    """Returns the logits of a model where all that does not stay is times 0."""
    # The engine that asks the router by the function that is changed below.
    model, masks = model.adapted(engine="slots"), {}
    for block, kind, unit in gone(model, kept):
        if kind == "experts":
            masks.setdefault(block, np.zeros(model.config.num_experts, "float32"))
            masks[block][unit] = -math.inf
        else:
            scaled(entries(model, block, kind, unit), 0.0)
    router = ROUTERS[model.config.router]
    choose, turns = router.choose, itertools.cycle(model.config.routed_banks)

    def without(logits, top_k):
        mask = masks.get(next(turns), 0.0)
        return choose(logits + keras.ops.convert_to_tensor(mask), top_k)

    with monkeypatch.context() as patch:
        patch.setattr(router, "choose", staticmethod(without))
        return numpy(model(IMAGES))


@pytest.fixture
def cuts(monkeypatch):
    """A list of what is kept at every cut."""
    found, cut = [], prune_module.cut

    def cut_and_told(model, kept):
        found.append(kept)
        return cut(model, kept)

    monkeypatch.setattr(prune_module, "cut", cut_and_told)
    return found


@pytest.mark.parametrize("name", list(FAMILIES))
def test_what_is_left_computes_as_it_did(name, cuts, monkeypatch):
    model = family(name)
    costs = Costs(model, "flops")
    # All goes that can.
    target = least_cost(costs, 2) / costs.whole + 1e-9
    pruned = prune(model, IMAGES, LABELS, target, multiple=2)
    [kept] = cuts
    kinds = {kind for _, kind, _ in gone(model, kept)}
    assert kinds == {kind for _, kind in units_of(model.config)}
    assert pruned.config.routed_steps == model.config.routed_steps
    found, wanted = numpy(pruned(IMAGES)), with_gates(model, kept, monkeypatch)
    np.testing.assert_allclose(found, wanted, atol=1e-5 * np.abs(wanted).max())


@pytest.mark.parametrize("name", ["gated", "vit_moe", "cycle", "attention"])
def test_a_unit_is_worth_what_the_loss_moves_by_it(name):
    # Of all experts, so that no token changes its own where something shrinks.
    model = family(name, top_k=4, **NOISY)
    found, size = worth_of(model), 0.01
    assert found.keys() == set(units_of(model.config))
    for (block, kind), worth in found.items():
        unit = np.unravel_index(worth.argmax(), worth.shape)
        parts = entries(model, block, kind, unit if worth.ndim > 1 else unit[0])
        before = [(variable, np.array(numpy(variable))) for variable, _ in parts]
        losses = []
        for factor in (1 + size, 1 - size):
            scaled(parts, factor)
            losses.append(task_loss(model))
            for variable, value in before:
                variable.assign(value)
        wanted = ((losses[0] - losses[1]) / (2 * size)) ** 2
        assert worth[unit] == pytest.approx(wanted, rel=0.02, abs=1e-7), (block, kind)


def test_each_batch_is_squared_by_itself():
    model = family("vit")
    parts = [slice(4), slice(4, 8)]
    one, other = (worth_of(model, IMAGES[part], LABELS[part]) for part in parts)
    for place, found in worth_of(model, batch_size=4).items():
        wanted = (one[place] + other[place]) / 2
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize(
    ("kind", "units"), [("heads", [1]), ("value_dims", [2, 7]), ("hidden", [0, 3, 8])]
)
def test_what_nothing_reads_goes_first(kind, units, cuts):
    model = family("cycle")
    for unit in units:
        # Of what is read of a unit the last of its weights is the way out.
        scaled(entries(model, 1, kind, unit)[-1:], 0.0)
    worth = worth_of(model)[1, kind]
    np.testing.assert_array_equal(np.flatnonzero(worth == 0.0), units)
    costs = Costs(model, "flops")
    size, part = costs.sizes[1], "feed_forward" if kind == "hidden" else "attention"
    smaller = size.resized(kind, size.count(kind) - len(units))
    left = costs.whole - costs.of(part, 1, size) + costs.of(part, 1, smaller)
    pruned = prune(model, IMAGES, LABELS, left / costs.whole, multiple=1)
    assert gone(model, cuts[0]) == [(1, kind, unit) for unit in units]
    assert forward_flops(pruned.config) == left
    wanted = numpy(model(IMAGES))
    np.testing.assert_allclose(numpy(pruned(IMAGES)), wanted, atol=1e-5)


@pytest.mark.parametrize("measure", ["flops", "parameters"])
@pytest.mark.parametrize("name", ["gated", "cycle", "vit_moe", "grouped", "attention"])
def test_the_cost_ends_less_than_a_unit_below_the_target(name, measure):
    model = family(name)
    costs = Costs(model, measure)
    least = least_cost(costs, 2) / costs.whole
    for share in (0.7, 0.3):
        target = least + share * (1 - least)
        pruned = prune(model, IMAGES, LABELS, target, measure, multiple=2)
        assert pruned.count_params() == model.count_params() - without(model, pruned)
        flops = measure == "flops"
        cost = forward_flops(pruned.config) if flops else pruned.count_params()
        before = forward_flops(model.config) if flops else model.count_params()
        assert target * before - largest_unit(costs) < cost <= target * before


def largest_unit(costs):
    """Returns the most that goes at once, of costs, with multiple=2."""
    found = {}
    for block, kind in units_of(costs.config):
        size, step = costs.sizes[block], 1 if kind == "heads" else 2
        smaller = size.resized(kind, size.count(kind) - step)
        freed = (costs.of(PART_OF[kind], block, each) for each in (size, smaller))
        # Experts go from all mixtures at once.
        place = kind if kind == "experts" else (block, kind)
        found[place] = found.get(place, 0) + np.subtract(*freed)
    return max(found.values())


def without(model, pruned):
    """Returns how many parameters went, by arithmetic."""
    lost, width = 0, model.config.width
    for config, sign in ((model.config, 1), (pruned.config, -1)):
        for block in set(config.holders("attention")):
            heads, key_dim, value_dim, _ = config.sizes[block]
            inner = heads * (2 * key_dim + value_dim)
            lost += sign * (inner * (width + 1) + heads * value_dim * width)
        for block in set(config.holders("feed_forward")):
            hidden = config.sizes[block].hidden
            if block in config.routed_blocks:
                expert = (2 * width + 1) * hidden + width
                lost += sign * config.num_experts * (expert + width)
            else:
                lost += sign * ((2 + config.gated) * width + 1 + config.gated) * hidden
    return lost
