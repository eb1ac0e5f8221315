"""Units that the loss moves least with: which they are, and what is left without them."""

import itertools
import math

import keras
import numpy as np
import pytest
from conftest import numpy, one_line, slow_on, tiny_images, tiny_model
from test_prune_prompts import NOISY, task_loss

import widenet_keras
from widenet_keras import forward_flops, prune
from widenet_keras.conversions import prune as prune_module
from widenet_keras.conversions.costs import Costs
from widenet_keras.conversions.importance import importance
from widenet_keras.conversions.selection import kept_units, least_cost, units_of
from widenet_keras.conversions.units import unit_sets
from widenet_keras.models.weights import weights_by_path
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
    each, size = model.encoder.blocks[block], model.config.sizes[block]
    attention, part, whole = each.attention, each.feed_forward, slice(None)
    query, key, value, output = (
        getattr(attention, f"{name}_projection")
        for name in ("query", "key", "value", "output")
    )
    keys = np.arange(size.heads * size.key_dim).reshape(size.heads, -1)
    values = np.arange(size.heads * size.value_dim).reshape(size.heads, -1)
    if kind == "heads":
        inner = [(query, keys[unit]), (key, keys[unit]), (value, values[unit])]
        outer = [(output.kernel, (values[unit],))]
    elif kind == "key_dims":
        inner, outer = [(query, keys[:, unit]), (key, keys[:, unit])], []
    elif kind == "value_dims":
        inner, outer = [(value, values[:, unit])], [(output.kernel, (values[:, unit],))]
    elif not each.is_routed:
        inner = [(product, unit) for product in (part.hidden, getattr(part, "gate", 0))]
        inner, outer = inner[: 1 + part.gated], [(part.outer.kernel, (unit,))]
    else:
        bank, expert = part.experts, unit
        if kind == "hidden":
            expert, unit = unit
            return [
                (bank.hidden_kernel, (expert, whole, unit)),
                (bank.hidden_bias, (expert, unit)),
                (bank.outer_kernel, (expert, unit)),
            ]
        return [(weight, (expert,)) for weight in bank.weights]
    return [
        *((product.kernel, (whole, columns)) for product, columns in inner),
        *((product.bias, (columns,)) for product, columns in inner),
        *outer,
    ]


def scaled(parts, factor):
    """Multiplies some entries of weights."""
    for variable, place in parts:
        value = np.array(numpy(variable))
        value[place] *= factor
        variable.assign(value)


def gone(model, kept):
    """Yields (block, kind, unit) of all units that do not stay."""
    for block, kind in units_of(model.config):
        left = np.asarray(kept.get((block, kind), []))
        count = Costs(model, "flops").sizes[block].count(kind)
        if left.ndim == 2:
            yield from (
                (block, kind, (expert, unit))
                for expert, mine in enumerate(left)
                for unit in set(range(count)) - set(mine.tolist())
            )
        elif (block, kind) in kept:
            yield from (
                (block, kind, unit) for unit in set(range(count)) - set(left.tolist())
            )


def with_gates(model, kept, monkeypatch):
    """Returns the logits of a model where what does not stay is multiplied by 0."""
    masks = {}
    for block, kind, unit in gone(model, kept):
        if kind == "experts":
            mask = masks.setdefault(block, np.zeros(model.config.num_experts))
            mask[unit] = -math.inf
        else:
            scaled(entries(model, block, kind, unit), 0.0)
    router = ROUTERS[model.config.router]
    choose, turns = router.choose, itertools.cycle(model.config.routed_banks)

    def without(logits, top_k):
        mask = masks.get(next(turns))
        return choose(logits if mask is None else logits + _tensor(mask), top_k)

    with monkeypatch.context() as patch:
        patch.setattr(router, "choose", staticmethod(without))
        return numpy(model(IMAGES))


def _tensor(array):
    return keras.ops.convert_to_tensor(array, "float32")


@pytest.fixture
def kept(monkeypatch):
    """A list of what is kept at every cut."""
    found, cut = [], prune_module.cut

    def cut_and_told(model, kept):
        found.append(kept)
        return cut(model, kept)

    monkeypatch.setattr(prune_module, "cut", cut_and_told)
    return found


@pytest.mark.parametrize("name", list(FAMILIES))
@pytest.mark.parametrize("measure", ["flops", "parameters"])
def test_what_is_left_computes_as_it_did(name, measure, kept, monkeypatch):
    model = family(name)
    # All that can go, or about half of that.
    costs = Costs(model, measure)
    target = least_cost(costs, 2) / costs.whole
    target = target + 1e-9 if measure == "flops" else (1 + target) / 2
    pruned = prune(model, IMAGES, LABELS, target, measure, multiple=2)
    [kept] = kept
    found = numpy(pruned(IMAGES))
    kinds = {kind for _, kind, _ in gone(model, kept)}
    if measure == "flops":
        assert kinds == {kind for _, kind in units_of(model.config)}
    assert pruned.config.routed_steps == model.config.routed_steps
    wanted = with_gates(model, kept, monkeypatch)
    largest = np.abs(wanted).max()
    np.testing.assert_allclose(found, wanted, atol=1e-5 * largest)


@pytest.mark.parametrize("name", ["gated", "vit_moe", "cycle", "attention"])
def test_a_unit_is_worth_what_the_loss_moves_by_it(name):
    # Of all experts, so that no token changes its own where something shrinks.
    model = family(name, top_k=4, **NOISY)
    found, size = worth_of(model), 0.01
    for block, kind in units_of(model.config):
        worth = found[block, kind]
        unit = np.unravel_index(worth.argmax(), worth.shape)
        losses, parts = [], entries(model, block, kind, unit if worth.ndim > 1 else unit[0])
        before = [np.array(numpy(variable)) for variable, _ in parts]
        for factor in (1 + size, 1 - size):
            scaled(parts, factor)
            losses.append(task_loss(model))
            for (variable, _), value in zip(parts, before, strict=True):
                variable.assign(value)
        wanted = ((losses[0] - losses[1]) / (2 * size)) ** 2
        assert worth[unit] == pytest.approx(wanted, rel=0.02, abs=1e-7), (block, kind)
