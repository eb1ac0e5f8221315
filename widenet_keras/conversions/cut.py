"""A model with some of the units of its blocks alone."""

import numpy as np

from widenet_keras.conversions.axes import (
    EXPERTS,
    HEADS,
    HIDDEN,
    KEY_DIMS,
    VALUE_DIMS,
    hidden_axis,
)
from widenet_keras.conversions.remade import remade
from widenet_keras.layers.parallel_paths import paths_of
from widenet_keras.layers.pieces.lora import FEED_FORWARD_MAPS
from widenet_keras.layers.sharing import PART_PLANS
from widenet_keras.models.block_sizes import BlockSize
from widenet_keras.models.config import WideNetConfig
from widenet_keras.models.weights import read, weights_by_path
from widenet_keras.models.widenet import WideNet

_PARTS = ("kernel", "bias")


def cut(
    model: WideNet,
    kept: dict[tuple[int, str], np.ndarray],
    more: dict[str, np.ndarray] | None = None,
) -> WideNet:
    """Returns the model that computes with the units that are kept alone.

    It gives what the model gives where nothing reads the other heads, dimensions and
    hidden units, and where no token is sent to the other experts.

    Args:
        model: A `WideNet` or `ImageClassifier` of floats, without `step_widths`.
        kept: Dict from a block and a kind of units to the sorted indices of those that
            stay; what is not in it stays whole. The block is the one that holds the
            part, whose parallel paths keep the same. Kinds are "heads"; "key_dims" and
            "value_dims", the same of all heads; "hidden", (n,), of a mixture (E, n)
            with a row for each of its experts before the cut; and "experts", of which
            all mixtures keep equally many.
        more: Dict from paths to arrays, of further weights that change, pieces with
            sizes of what is cut.

    Returns:
        A new, uncompiled model of the same class and dtype policy; the same groups are
        frozen.
    """
    config, weights = model.config, weights_by_path(model)

    def own(path):
        return read(weights[path])

    sizes, values, experts = [], dict(more or {}), config.num_experts
    for block, size in enumerate(config.sizes):
        attention, part = (config.holders(name)[block] for name in PART_PLANS)
        units = _Units(size, attention, kept)
        hidden = kept.get((part, HIDDEN))
        if attention == block:
            for place in _places(model, block, "attention"):
                values |= units.values(own, place)
        if part == block:
            places = _places(model, block, "feed_forward")
            if block in config.routed_blocks:
                alive = kept.get((block, EXPERTS), np.arange(config.num_experts))
                experts = len(alive)
                values |= _experts(own, *places, hidden, alive)
            elif hidden is not None:
                for place in places:
                    values |= _dense(own, place, hidden, config.gated)
        width = size.hidden if hidden is None else hidden.shape[-1]
        sizes.append(units.size(width))
    return remade(model, sized(config, tuple(sizes), experts), values)


def _places(model, block, part):
    """Returns the paths of the sub-layers of a part of a block, a list."""
    starts = paths_of(getattr(model.encoder.blocks[block], part))
    return [f"encoder/block_{block}/{part}/{start}".rstrip("/") for start in starts]


class _Units:
    """Which columns of the projections of an attention stay."""

    def __init__(self, size, holder, kept):
        self.before = size
        self.heads = kept.get((holder, HEADS), np.arange(size.heads))
        self.keys = kept.get((holder, KEY_DIMS), np.arange(size.key_dim))
        self.dims = kept.get((holder, VALUE_DIMS), np.arange(size.value_dim))

    def size(self, hidden):
        """Returns the `BlockSize` of what stays."""
        return BlockSize(len(self.heads), len(self.keys), len(self.dims), hidden)

    def values(self, own, place):
        """Returns the weights of what stays, by path."""
        keys = (self.heads[:, None] * self.before.key_dim + self.keys).ravel()
        values = (self.heads[:, None] * self.before.value_dim + self.dims).ravel()
        # Logits are divided by the root of how many dimensions there are.
        scale = (len(self.keys) / self.before.key_dim) ** 0.5
        found = {}
        for name, columns, factor in (
            ("query", keys, scale),
            ("key", keys, 1.0),
            ("value", values, 1.0),
        ):
            for part in _PARTS:
                path = f"{place}/{name}/{part}"
                found[path] = own(path)[..., columns] * factor
        path = f"{place}/output/kernel"
        return {**found, path: own(path)[values]}


def _dense(own, place, hidden, gated):
    """Returns the weights of a dense MLP with some hidden units, by path."""
    found = {}
    for name in FEED_FORWARD_MAPS:
        for number, part in enumerate(_PARTS):
            axis, path = hidden_axis(name, number), f"{place}/{name}/{part}"
            if axis is not None and (gated or name != "gate"):
                found[path] = np.take(own(path), hidden, axis)
    return found


def _experts(own, place, hidden, alive):
    """Returns the weights of some experts with some hidden units each, by path."""
    router = f"{place}/router/kernel"
    found = {router: own(router)[:, alive]}
    for name in ("hidden", "outer"):
        for number, part in enumerate(_PARTS):
            axis = hidden_axis(f"experts_{name}", number)
            path = f"{place}/experts/{name}_{part}"
            found[path] = own(path)[alive]
            if hidden is not None and axis is not None:
                pairs = zip(found[path], hidden[alive], strict=True)
                found[path] = np.stack([np.take(*pair, axis) for pair in pairs])
    return found


def sized(
    config: WideNetConfig, sizes: tuple[BlockSize, ...], experts: int | None = None
) -> WideNetConfig:
    """Returns the config of blocks of these sizes; of equal ones without a table.

    Args:
        config: `WideNetConfig`.
        sizes: `BlockSize` of each unique block.
        experts: E of the mixtures; None for that of the config.
    """
    # Fractions of other widths are others, so that they come back last, if at all.
    base = config.replace(
        num_experts=experts or config.num_experts,
        block_sizes=None,
        nested_widths=(),
        nested_probabilities=None,
    )
    plain = {}
    for block, size in enumerate(sizes):
        field = "expert_dim" if block in config.routed_blocks else "mlp_dim"
        # The MLP of attention pooling has that width too.
        if field == "expert_dim" or config.pooling != "attention":
            plain.setdefault(field, size.hidden)
    alike = base.replace(**plain)
    found = alike if alike.sizes == sizes else base.replace(block_sizes=sizes)
    if any(a.hidden != b.hidden for a, b in zip(sizes, config.sizes, strict=True)):
        return found
    return found.replace(
        nested_widths=config.nested_widths,
        nested_probabilities=config.nested_probabilities,
    )
