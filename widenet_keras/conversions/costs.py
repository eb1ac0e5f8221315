"""What the parts of blocks cost, by one of several measures."""

import collections
import functools
from typing import NamedTuple, Protocol

from widenet_keras.conversions.axes import (
    EXPERTS,
    HEADS,
    HIDDEN,
    KEY_DIMS,
    VALUE_DIMS,
)
from widenet_keras.layers.sharing import PART_PLANS
from widenet_keras.models.block_sizes import BlockSize
from widenet_keras.models.config import WideNetConfig
from widenet_keras.models.flops import (
    attention_flops,
    feed_forward_flops,
    forward_flops,
)
from widenet_keras.models.memory_use import (
    attention_parameters,
    dense_parameters,
    expert_parameters,
)
from widenet_keras.models.widenet import WideNet

_FIELDS = {
    HEADS: "heads",
    KEY_DIMS: "key_dim",
    VALUE_DIMS: "value_dim",
    HIDDEN: "hidden",
}
MEASURES = ("flops", "parameters", "latency")
_ROUNDING = 1e-9


class Size(NamedTuple):
    """Sizes of a block, and how many experts a mixture has.

    Attributes:
        block: `BlockSize`.
        experts: E; of no account for a dense block.
    """

    block: BlockSize
    experts: int

    def count(self, kind: str) -> int:
        """Returns how many units of a kind there are; of each expert its own."""
        return self.experts if kind == EXPERTS else getattr(self.block, _FIELDS[kind])

    def resized(self, kind: str, count: int) -> "Size":
        """Returns the size with another number of units of a kind."""
        if kind == EXPERTS:
            return self._replace(experts=count)
        return self._replace(block=self.block._replace(**{_FIELDS[kind]: count}))


class Table(Protocol):
    """What parts take that were measured, as `LatencyTable` says it."""

    def check(self, config: WideNetConfig, dtype: str | None = None):
        """Raises `ValueError` unless it is for a model of a dtype policy."""

    def attention(self, size: BlockSize) -> float:
        """Returns the time of the attention of one step."""

    def feed_forward(self, size: BlockSize, routed: bool, experts: int) -> float:
        """Returns the time of the feed-forward part of one step."""

    def forward(self, config: WideNetConfig) -> float:
        """Returns the time of a whole model."""


def is_within(cost: float, budget: float) -> bool:
    """Whether a cost is at most a budget, but for the rounding of sums.

    Args:
        cost: What something costs.
        budget: What it may cost.
    """
    return cost <= budget * (1 + _ROUNDING)


class Costs:
    """What the parts of a model cost at any size.

    Args:
        model: A `WideNet` or `ImageClassifier`.
        measure: One of `MEASURES`: "flops" by formula for one image, and "latency" by a
            table, both as often as steps read a part; "parameters" once.
        table: `Table`, for "latency".
    """

    def __init__(self, model: WideNet, measure: str, table: Table | None = None):
        self.config = config = model.config
        self.sizes = {
            block: Size(size, config.num_experts)
            for block, size in enumerate(config.sizes)
        }
        self._uses, self._of_part = {}, _OF_MEASURE[measure](config, table)
        for part in PART_PLANS:
            holders, groups = config.holders(part), config.groups_of_steps.counts
            used = (holders[block] for block in config.block_of_step)
            uses = collections.Counter(zip(used, groups, strict=True))
            if measure == "parameters":
                uses = dict.fromkeys(((holder, 1) for holder in holders), 1)
            self._uses[part] = uses
        whole = {
            "flops": lambda: forward_flops(config),
            "parameters": model.count_params,
            "latency": lambda: table.forward(config),
        }
        self.whole = whole[measure]()

    def of(self, part: str, block: int, size: Size) -> float:
        """Returns what a part costs in all its uses.

        Args:
            part: "attention" or "feed_forward".
            block: The block that holds it.
            size: `Size` that it has.
        """
        routed = block in self.config.routed_blocks
        return sum(
            count * self._of_part(part, size, routed, groups)
            for (holder, groups), count in self._uses[part].items()
            if holder == block
        )


def _of_flops(config, table):
    @functools.cache
    def with_experts(count):
        return config.replace(num_experts=count)

    def cost(part, size, routed, groups):
        if part == "attention":
            return attention_flops(config, size.block, groups)
        config_of_size = with_experts(size.experts) if routed else config
        return feed_forward_flops(config_of_size, size.block, routed)

    return cost


def _of_parameters(config, table):
    width = config.width

    def cost(part, size, routed, groups):
        heads, key_dim, value_dim, hidden = size.block
        if part == "attention":
            return attention_parameters(width, heads * key_dim, heads * value_dim)
        if routed:
            return expert_parameters(width, hidden, size.experts)
        return dense_parameters(width, hidden, config.gated)

    return cost


def _of_latency(config, table):
    # Between what was measured tables interpolate, which takes long.
    @functools.cache
    def cost(part, size, routed, groups):
        if part == "attention":
            return table.attention(size.block)
        return table.feed_forward(size.block, routed, size.experts)

    return cost


_OF_MEASURE = {
    "flops": _of_flops,
    "parameters": _of_parameters,
    "latency": _of_latency,
}
