"""Units that the loss moves least with: which they are, what is left without them."""

import importlib
import itertools
import math

import keras
import numpy as np
import pytest
from conftest import numpy, one_line, slow, slow_on, tiny_images, tiny_model
from on_split_cpu import printed_by
from test_prune_prompts import NOISY, task_loss

from widenet_keras import LoRA, Prompt, forward_flops, prune, untie
from widenet_keras.conversions.costs import Costs
from widenet_keras.conversions.importance import importance
from widenet_keras.conversions.selection import kept_units, least_cost
from widenet_keras.conversions.units import PART_OF, unit_sets, units_of
from widenet_keras.models.widenet import WideNet
from widenet_keras.routing.router import ROUTERS

# The name of the package is the function.
prune_module = importlib.import_module("widenet_keras.conversions.prune")
IMAGES, LABELS = tiny_images(8), np.arange(8) % 5
# Heads of 12 dimensions, of which some can go.
SIZES = {"width": 24, "heads": 2}
KINDS = ("heads", "key_dims", "value_dims", "hidden", "experts")
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


@pytest.mark.parametrize(
    "name",
    [
        each if each in ("vit", "widenet", "vit_moe") else slow(each)
        for each in FAMILIES
    ],
)
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


@pytest.mark.parametrize(
    "name", [slow("gated"), "vit_moe", slow("cycle"), slow("attention")]
)
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


class Endless(keras.utils.PyDataset):
    """Batches without end."""

    num_batches = None

    def __getitem__(self, index):
        return IMAGES, LABELS


class EndlessTensorFlow:
    """What tells of a `tf.data` set that it has no end."""

    element_spec = None

    def cardinality(self):
        """Returns `tf.data.INFINITE_CARDINALITY`."""
        return -1


@pytest.mark.parametrize(
    ("images", "remedy"), [(Endless, "a length"), (EndlessTensorFlow, ".take(n)")]
)
def test_what_never_ends_is_refused(images, remedy):
    with pytest.raises(ValueError, match="never ends") as error:
        prune(family("vit"), images(), target=0.8)
    assert remedy in one_line(error)


def test_a_generator_is_looked_at_once():
    model = family("vit")
    pruned = prune(model, iter([(IMAGES, LABELS)]), target=0.8)
    assert pruned.config == prune(model, IMAGES, LABELS, 0.8).config


@pytest.mark.parametrize(
    ("kind", "units"),
    [slow("heads", [1]), slow("value_dims", [2, 7]), ("hidden", [0, 3, 8])],
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


@pytest.mark.parametrize(
    ("name", "measure"),
    [
        slow("gated", "parameters"),
        ("cycle", "flops"),
        slow("vit_moe", "parameters"),
        ("grouped", "parameters"),
        slow("attention", "flops"),
    ],
)
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


@slow_on("jax")
def test_every_backend_chooses_the_same():
    model = family("vit_moe", steps=2, moe_blocks=(1,), num_experts=3)
    random = np.random.default_rng(2)
    for weight in model.weights:
        noise = random.normal(size=weight.shape) * 0.3
        weight.assign(noise + weight.path.endswith("gamma"))
    worth, costs = worth_of(model, batch_size=4), Costs(model, "parameters")
    every = list(range(12))
    wanted = {
        (0, "heads"): (1.394551, [0]),
        (0, "key_dims"): (0.6142819, every),
        (0, "value_dims"): (1.031075, every),
        (1, "heads"): (0.3775723, [0, 1]),
        (1, "key_dims"): (0.261434, [0, 2, 3, 4, 5, 7, 8, 11]),
        (1, "value_dims"): (0.5009973, [0, 1, 2, 5, 6, 7, 8, 11]),
        (0, "hidden"): (0.1982385, [0, 1, 2, 4, 5, 6, 7, 9]),
        (1, "hidden"): (0.06137826, [[4, 8], [5, 12], [4, 13]]),
        (1, "experts"): (0.02621107, [1, 2]),
    }
    for place, (total, _) in wanted.items():
        assert worth[place].sum() == pytest.approx(total, rel=1e-4), place
    kept = kept_units(worth, costs, 0.6 * costs.whole, 2)
    assert {place: units.tolist() for place, units in kept.items()} == {
        place: units for place, (_, units) in wanted.items()
    }


# What the devices of a strategy sum up, over what one of them does.
ON_DEVICES = """
from on_split_cpu import split_cpu

split_cpu(2)
import contextlib
import keras
import tensorflow as tf
from test_prune import family, worth_of

found = []
for scope in (contextlib.nullcontext(), tf.distribute.MirroredStrategy().scope()):
    with scope:
        keras.utils.set_random_seed(0)
        found.append(worth_of(family("vit_moe"), batch_size=4))
one, two = found
print(max(abs(one[place] - two[place]).max() / one[place].max() for place in one))
"""


@pytest.mark.slow
def test_devices_see_what_one_device_does():
    assert float(printed_by(ON_DEVICES).split()[-1]) < 1e-5


@pytest.mark.parametrize(
    ("multiple", "counts"),
    [
        (1, [(1, 8, 8, 1), (1, 8, 8, 1), 2]),
        (5, [(1, 10, 10, 5), (1, 10, 10, 5), 2]),
        (8, [(1, 8, 8, 8), (1, 8, 8, 8), 2]),
        (16, [(1, 12, 12, 10), (1, 12, 12, 14), 2]),
    ],
)
def test_what_is_left_at_least_is_a_multiple_or_all(multiple, counts):
    costs = Costs(family("vit_moe", steps=2, moe_blocks=(1,)), "parameters")
    worth = {
        (block, kind): np.ones((4, 14) if (block, kind) == (1, "hidden") else count)
        for block, kind in units_of(costs.config)
        for count in [costs.sizes[block].count(kind)]
    }
    least = least_cost(costs, multiple)
    kept = kept_units(worth, costs, least, multiple)
    left = [
        tuple(kept[b, k].shape[-1] for k in KINDS if (b, k) in kept) for b in (0, 1)
    ]
    assert [left[0], left[1][:4], left[1][4]] == counts


class Staircase:
    """A table by which hidden units are computed four at a time."""

    def check(self, config, dtype=None):
        """Refuses what has a head alone."""
        if config.heads == 1:
            raise ValueError("the table is of another model.")

    def attention(self, size):
        """Ten for each head."""
        return 10.0 * size.heads

    def feed_forward(self, size, routed, experts):
        """One for each four hidden units."""
        return math.ceil(size.hidden / 4) + 7.0 * routed

    def forward(self, config):
        """Two more than the steps."""
        return 2.0 + sum(
            self.attention(size)
            + self.feed_forward(size, step in config.routed_steps, 4)
            for step, size in enumerate(config.sizes_of_steps)
        )


def test_a_table_says_what_is_fast():
    model = family("vit_moe")
    pruned = prune(model, IMAGES, LABELS, 0.7, "latency", multiple=1, table=Staircase())
    before, after = (Costs(m, "latency", Staircase()).whole for m in (model, pruned))
    assert before == 2 + 3 * 20 + 3 + 2 * (4 + 7)
    assert 0.7 * before - 10 < after <= 0.7 * before
    heads, hidden = (
        {getattr(size, field) for size in pruned.config.sizes}
        for field in ("heads", "hidden")
    )
    # What goes frees something: half a stair does not.
    assert hidden <= {10, 14, 12, 8, 4}
    assert min(heads) == 1
    assert all(size.key_dim == 12 for size in pruned.config.sizes)
    assert pruned.config.num_experts == model.config.num_experts
    with pytest.raises(ValueError, match="the cost nothing more that may go") as error:
        kept_units(worth_of(model), Costs(model, "latency", Staircase()), 1.0, 1)
    one_line(error)


class Corner(Staircase):
    """A table by which attention is fast at its smallest sizes alone."""

    def attention(self, size):
        """One where nothing more can go."""
        return 1.0 if size[:3] == (1, 8, 8) else 5.0

    def feed_forward(self, size, routed, experts):
        """Two unless experts and their hidden units are fewest."""
        return 1.0 if size.hidden == 8 and experts == 2 else 2.0


@pytest.mark.parametrize("share", [0.0, 1e-9, 0.5])
def test_what_is_fast_only_together_goes_together(share):
    costs = Costs(family("vit_moe"), "latency", Corner())
    worth = {
        (block, kind): np.ones((4, 14) if kind == "hidden" and block else count)
        for block, kind in units_of(costs.config)
        for count in [costs.sizes[block].count(kind)]
    }
    least = least_cost(costs, 8)
    assert least == costs.whole - 3 * 4 - 2
    kept = kept_units(worth, costs, least + share * (costs.whole - least), 8)
    [one, *_] = (len(kept[block, "heads"]) for block in range(3))
    assert one == 1
    if share < 0.1:
        assert [len(kept[1, kind]) for kind in KINDS if kind != "hidden"] == [
            1,
            8,
            8,
            2,
        ]


def test_experts_that_are_gone_count_for_nothing():
    costs = Costs(family("vit_moe", steps=2, moe_blocks=(1,)), "parameters")
    # Worth a lot is all but the first expert, and the hidden units of the others.
    worth = {
        (block, kind): np.full(costs.sizes[block].count(kind), 1e3)
        for block, kind in units_of(costs.config)
    }
    worth[1, "experts"][0] = 0.0
    worth[1, "hidden"] = np.repeat([[1e9], [1e-3], [1e-3], [1e-3]], 14, axis=1)
    smaller = costs.sizes[1].resized("experts", 3).resized("hidden", 12)
    freed = costs.of("feed_forward", 1, costs.sizes[1])
    freed -= costs.of("feed_forward", 1, smaller)
    kept = kept_units(worth, costs, costs.whole - freed, 2)
    assert kept[1, "experts"].tolist() == [1, 2, 3]
    assert kept[1, "hidden"].shape == (4, 12)
    others = [each for each in kept if each not in {(1, "experts"), (1, "hidden")}]
    assert all(len(kept[each]) == len(worth[each]) for each in others)


def test_a_table_counts_every_use_of_a_shared_block():
    model, table = family("cycle"), Staircase()
    pruned = prune(model, IMAGES, LABELS, 0.7, "latency", multiple=1, table=table)
    whole, left = (table.forward(each.config) for each in (model, pruned))
    assert whole == 2 + 4 * (20 + 3)
    # A head that two steps read.
    assert 0.7 * whole - 2 * 10 < left <= 0.7 * whole


def test_rounds_are_equal_steps_and_each_has_gradients_of_its_own(cuts, monkeypatch):
    model, seen, budgets = family("gated"), [], []

    def told(worth, costs, budget, multiple):
        budgets.append(budget)
        return kept_units(worth, costs, budget, multiple)

    monkeypatch.setattr(prune_module, "kept_units", told)

    def finetune(given):
        seen.append(given)
        given.compile("sgd")
        given.fit(IMAGES, LABELS, verbose=0)
        # The first time in place.
        return None if len(seen) == 1 else given.adapted()

    pruned = prune(
        model, IMAGES, LABELS, 0.512, rounds=3, finetune=finetune, multiple=1
    )
    parts = [forward_flops(m.config) for m in (*seen, pruned)]
    found = np.divide(parts, forward_flops(model.config))
    assert (
        (np.array([0.77, 0.61, 0.48]) < found) & (found <= [0.8, 0.64, 0.512])
    ).all()
    assert len(cuts) == 3
    whole = forward_flops(model.config)
    np.testing.assert_allclose(budgets, whole * np.array([0.8, 0.64, 0.512]))
    [trained] = [weight for weight in seen[0].weights if "norm1/gamma" in weight.path]
    for weight in pruned.weights:
        if weight.path.endswith("norm1/gamma"):
            assert (numpy(weight) != numpy(trained)).any()


def test_what_else_a_model_has_stays():
    model = family("vit", dtype="mixed_bfloat16", nested_widths=(0.5, 1.0))
    model.frozen = ("embedding",)
    model.class_names = tuple("abcde")
    before = [np.array(numpy(weight)) for weight in model.weights]
    pruned = prune(model, IMAGES, LABELS, np.float32(0.7), multiple=1)
    for weight, value in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(numpy(weight), value)
    assert pruned.frozen == ("embedding",)
    assert pruned.class_names == tuple("abcde")
    assert pruned.dtype_policy.name == "mixed_bfloat16"
    assert not pruned.config.nested_widths
    with pytest.raises(ValueError, match="blocks of one size") as error:
        pruned.adapted(pieces=[LoRA(2)])
    one_line(error)
    again = prune(pruned, IMAGES, LABELS, 0.9, multiple=1)
    assert forward_flops(again.config) <= 0.9 * forward_flops(pruned.config)


@pytest.mark.parametrize(
    ("arguments", "pieces"),
    [
        ({"target": 0}, ["target=0", "(0, 1)"]),
        ({"target": 1.0}, ["target=1.0", "(0, 1)"]),
        ({"target": "half"}, ["target='half'"]),
        ({"target": float("nan")}, ["target=nan"]),
        ({"target": 0.05}, ["target=0.05", "least that can is 0.4", "multiple=1"]),
        ({"measure": "flop"}, ["measure='flop'", "Did you mean 'flops'?"]),
        ({"measure": "latency"}, ["needs table", "widenet measure"]),
        ({"table": "times.json"}, ["table", "measure='latency'", "'flops'"]),
        ({"rounds": 0}, ["rounds=0"]),
        ({"multiple": 0}, ["multiple=0"]),
        ({"batch_size": 1.5}, ["batch_size=1.5"]),
        ({"finetune": "epochs"}, ["finetune='epochs'", "function"]),
        ({"finetune": print}, ["finetune", "rounds=2"]),
        ({"rounds": 2, "finetune": id}, ["a int is not a model"]),
        ({"rounds": 2, "images": iter(())}, ["a generator", "rounds=1"]),
        ({"measure": "latency", "table": 3}, ["table=3 is no table", "a LatencyTable"]),
        ({"measure": "latency", "table": {}}, ["table={} is no table"]),
        ({"target": 1 - 1e-12}, ["costs no more than target=0.999", "smaller target"]),
        ({"loss": "hinges"}, ["loss='hinges' is not known", "mean 'hinge'?"]),
        ({"labels": None}, ["no labels"]),
        ({"labels": LABELS[:3]}, ["8", "3"]),
        ({"labels": LABELS + 1}, ["5"]),
        ({"images": tiny_images(8, size=16)}, ["16, 16, 3"]),
    ],
)
def test_what_does_not_fit_is_one_line(arguments, pieces):
    refused(family("vit"), arguments, pieces)


def test_other_models_are_refused_with_one_line():
    model = family("vit")
    refused("vit.keras", {}, ["a str is not a model"])
    refused(WideNet(model.config), {}, ["a WideNet is not trained", "ImageClassifier"])
    refused(model.adapted(num_classes=0), {}, ["num_classes=0"])
    for pieces, *advice in (
        ([LoRA(2)], "(lora)", "merge() first", "untie()"),
        ([LoRA(2), Prompt(2)], "(lora, prompt)", "adapted(pieces=())"),
    ):
        refused(model.adapted(pieces=pieces), {}, advice)
    steps = family("vit", step_widths=(10, 5))
    refused(steps, {}, ["step_widths=(10, 5)", "untie() first"])
    assert prune(untie(steps), IMAGES, LABELS, 0.8, multiple=1)
    single = family("vit", heads=1)
    given = {"measure": "latency", "table": Staircase()}
    refused(single, given, ["the table is of another model"])
    for whole in (0.0, math.inf, math.nan):
        nothing = Staircase()
        nothing.forward = lambda config, whole=whole: whole
        given["table"] = nothing
        refused(model, given, [f"takes {whole:g} milliseconds", "widenet measure"])
    # So sure that nothing moves the loss.
    kernel, bias = model.head.logits.weights
    kernel.assign(np.zeros(kernel.shape))
    bias.assign([1e4, 0, 0, 0, 0])
    refused(model, {"labels": 0 * LABELS}, ["loss of", "is 0", "other images"])
    for weight in model.head.logits.weights:
        weight.assign(np.full(weight.shape, np.nan))
    refused(model, {}, ["are no numbers", "not finite"])
    # As quantize() leaves it, which takes long.
    single.quantization = "int8"
    refused(single, {}, ["quantised to 'int8'", "float"])


def refused(model, arguments, pieces):
    """Expects a `ValueError` of one line that has all the pieces."""
    arguments = {"images": IMAGES, "labels": LABELS, "target": 0.8, **arguments}
    with pytest.raises(ValueError) as error:  # noqa: PT011
        prune(model, **{"multiple": 2, **arguments})
    line = one_line(error)
    assert [piece for piece in pieces if piece not in line] == [], line


def test_tokens_in_groups_are_looked_at_in_the_order_of_inference():
    """Training draws an order for each batch, by the seed."""
    fields = {"class_token": False, "attention_groups": (9, 3, 3, 1)}
    found = []
    for seed in (0, 1):
        keras.utils.set_random_seed(0)
        model = family("cycle", pooling="mean", **fields)
        model.seed = seed
        found.append(worth_of(model.adapted(dtype="float32")))
    for place, one in found[0].items():
        np.testing.assert_allclose(found[1][place], one, rtol=1e-5)
