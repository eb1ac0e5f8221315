"""Which units stay, where those go that are worth least for what they cost."""

import math
from collections.abc import Mapping

import numpy as np

from widenet_keras.conversions.axes import EXPERTS, HEADS, HIDDEN
from widenet_keras.conversions.costs import Costs, is_within
from widenet_keras.conversions.units import PART_OF, Place, units_of
from widenet_keras.layers.sharing import PART_PLANS

# Fewer dimensions than these leave attention little to tell tokens apart by.
LEAST_DIMS = 8


def least_cost(costs: Costs, multiple: int) -> float:
    """Returns what is left of the cost when everything is out that may go.

    Args:
        costs: `Costs`.
        multiple: As for `kept_units`.
    """
    config, sizes = costs.config, dict(costs.sizes)
    for block, kind in units_of(config):
        count = sizes[block].count(kind)
        groups, least, step = _limits(config, kind, multiple)
        left = groups * _least_left(count // groups, least, step)
        sizes[block] = sizes[block].resized(kind, left)
    return costs.whole - sum(
        costs.of(part, block, costs.sizes[block]) - costs.of(part, block, sizes[block])
        for part in PART_PLANS
        for block in set(config.holders(part))
    )


def kept_units(
    worth: Mapping[Place, np.ndarray], costs: Costs, budget: float, multiple: int
) -> dict[Place, np.ndarray]:
    """Returns which units of each kind stay, sorted indices as `cut` takes them.

    Of all blocks and kinds those units go first, several at a time, that are worth
    least for what they cost. Of every expert as many hidden units go; of every mixture
    one expert at a time, of "grouped_top_1" one of each of its groups.

    Args:
        worth: Dict from (block, kind) to what its units are worth, (n,), or (E, n) for
            hidden units of experts.
        costs: `Costs`.
        budget: Cost at which it ends.
        multiple: How many hidden units, and key or value dimensions, go at a time; what
            is left of them is a multiple, or all.

    Raises:
        ValueError: If nothing that may go brings the cost down any more.
    """
    lines = {
        (block, kind): _Line(worth[block, kind], *_limits(costs.config, kind, multiple))
        for block, kind in units_of(costs.config)
    }
    # What can only go together: experts, of all mixtures.
    mixtures = tuple(place for place in lines if place[1] == EXPERTS)
    choices = [(place,) for place in lines if place not in mixtures]
    choices += [mixtures] if mixtures else []
    parts = _parts(lines)
    near = {
        each: [other for other in choices if _touch(each, other)]
        for each in (*choices, *parts)
    }
    sizes, cost, found, changed = dict(costs.sizes), costs.whole, {}, choices
    while not is_within(cost, budget):
        for places in changed:
            found[places] = _next_of(places, lines, sizes, costs)
        moves = found
        if all(density == math.inf for density, _, _ in found.values()):
            # By a table that may still free something which no kind does by itself.
            moves = {each: _next_of(each, lines, sizes, costs) for each in parts}
        places = min(moves, key=lambda places: moves[places][0])
        density, gone, freed = moves[places]
        if density == math.inf:
            raise ValueError(
                f"prune: at {cost / costs.whole:.3g} of the cost nothing more that may "
                "go lowers it; use a target above that, or another measure."
            )
        for (block, kind), count in gone.items():
            line = lines[block, kind]
            line.gone = count
            sizes[block] = sizes[block].resized(kind, line.left)
        cost -= freed
        changed = near[places]
    return {place: line.kept() for place, line in lines.items()}


class _Line:
    """Units of one kind in one block, in the order in which they go.

    Args:
        worth: (n,), or (E, n) for hidden units of experts.
        groups: In how many groups of neighbours the last axis falls.
        least: How many stay, of each group.
        step: How many go at a time, of each group.
    """

    def __init__(self, worth, groups, least, step):
        worth = np.asarray(worth, float)
        rows = worth.reshape(-1, worth.shape[-1] // groups)
        self.shape, self.groups, self.step = worth.shape, groups, step
        self.order = np.argsort(rows, axis=1, kind="stable")
        sums = np.cumsum(np.take_along_axis(rows, self.order, axis=1), axis=1)
        self.sums = np.pad(sums, ((0, 0), (1, 0)))
        self.count = rows.shape[1]
        self.most = self.count - _least_left(self.count, least, step)
        self.gone = 0

    @property
    def left(self):
        """How many units are left, of each expert if these are theirs."""
        return self.groups * (self.count - self.gone)

    def nexts(self):
        """Returns how many may be gone next, of each row, from the fewest."""
        first = (self.count - self.gone) % self.step or self.step
        return range(self.gone + first, self.most + 1, self.step)

    def worth_until(self, gone, rows):
        """Returns what those are worth that go then, of some rows."""
        return float((self.sums[rows, gone] - self.sums[rows, self.gone]).sum())

    def kept(self):
        """Returns the sorted indices of what is left, (n',) or (E, n')."""
        left = np.sort(self.order[:, self.gone :], axis=1)
        if len(self.shape) > 1:
            return left
        return (left + np.arange(self.groups)[:, None] * self.count).ravel()


def _limits(config, kind, multiple):
    """Returns the number of groups, and of each how many stay and go at a time."""
    if kind == EXPERTS:
        grouped = config.router == "grouped_top_1"
        return (config.top_k, 1, 1) if grouped else (1, config.top_k, 1)
    if kind == HEADS:
        return 1, 1, 1
    return 1, multiple if kind == HIDDEN else LEAST_DIMS, multiple


def _least_left(count, least, step):
    """Returns how many of a count stay at least: a multiple of a step, or all."""
    return min(count, math.ceil(least / step) * step)


def _parts(lines):
    """Returns the places of each part, those of all mixtures together."""
    found = {}
    for block, kind in lines:
        part = PART_OF[kind]
        routed = part == PART_OF[EXPERTS] and (block, EXPERTS) in lines
        found.setdefault((part, None if routed else block), []).append((block, kind))
    return [tuple(places) for places in found.values()]


def _touch(places, others):
    """Whether what goes at some places changes what others cost."""
    here, there = ({(b, PART_OF[kind]) for b, kind in e} for e in (places, others))
    return not here.isdisjoint(there)


def _next_of(places, lines, sizes, costs):
    """Returns what goes next at some places: density, how many are gone, cost freed.

    These are as many as it takes to free anything, which by a table may be several
    times the least; the density is infinite where nothing does.
    """
    for gone in _nexts(places, lines):
        worth, smaller = 0, {}
        for (block, kind), count in gone.items():
            line, part = lines[block, kind], (PART_OF[kind], block)
            left = line.groups * (line.count - count)
            smaller[part] = smaller.get(part, sizes[block]).resized(kind, left)
            rows = slice(None)
            if kind == HIDDEN and (block, EXPERTS) in lines:
                rows = lines[block, EXPERTS].kept()
            worth += line.worth_until(count, rows)
        freed = sum(
            costs.of(part, block, sizes[block]) - costs.of(part, block, size)
            for (part, block), size in smaller.items()
        )
        if freed > 0:
            return worth / freed, gone, freed
    return math.inf, {}, 0


def _nexts(places, lines):
    """Yields dicts of how many may be gone next at each place, from the fewest."""
    nexts = {place: [*lines[place].nexts()] for place in places}
    for turn in range(max(map(len, nexts.values()))):
        yield {p: each[min(turn, len(each) - 1)] for p, each in nexts.items() if each}
