"""How long parts of a model take by their sizes: the table that `prune` reads."""

import dataclasses
import math
from pathlib import Path

from widenet_keras.conversions.latency_grid import Grid, is_number
from widenet_keras.models.block_sizes import BlockSize
from widenet_keras.models.config import WideNetConfig
from widenet_keras.models.config_checks import check_one_path
from widenet_keras.utils.json_files import read_json, write_json
from widenet_keras.utils.printable import printable

_FORMAT = "widenet_keras latency table 1"
AXES = {
    "attention": ("heads", "key_dim", "value_dim"),
    "dense": ("hidden",),
    "routed": ("experts", "hidden"),
}

# What times depend on besides the sizes and the number of the steps.
_FACTS = (
    *("image_size", "patch_size", "channels", "tokens", "width", "gated"),
    *("activation", "output_activation", "embedding_norm", "pooling"),
    *("representation", "num_classes"),
)
_OF_EXPERTS = ("top_k", "router", "engine")
# What a table has, and a model that it is not for, where a kind of parts is missing.
_MISSING = {
    "dense": ("no dense feed-forward parts", "some"),
    "routed": ("no experts", "some"),
}


@dataclasses.dataclass(frozen=True)
class LatencyTable:
    """How long inference takes, by the sizes of the parts of every step.

    A part takes its norm and its residual with it.

    Attributes:
        model: Dict of the model that was measured: its `name` and `dtype`, and what it
            shares with all models that the table is for.
        measured: Dict of where and how: versions, `backend`, `device`, `batch_size`,
            `repeats`, and `spread`, by which part timings of one thing differ.
        rest: Milliseconds of a batch in embedding and head.
        whole: Milliseconds of a batch in the whole model, as it was timed.
        grids: Dict of `Grid`s: "attention" over heads, key_dim and value_dim; "dense"
            over hidden widths; "routed" over experts and their hidden widths. Of the
            last two those that the model has.
        origin: What messages call the table.
    """

    model: dict
    measured: dict
    rest: float
    whole: float
    grids: dict[str, Grid]
    origin: str = "The latency table"

    def attention(self, size: BlockSize) -> float:
        """Returns the milliseconds of a batch in a step's attention.

        Args:
            size: `BlockSize` of what the step computes with.
        """
        return self.grids["attention"].at(*size[:3])

    def feed_forward(
        self, size: BlockSize, routed: bool, experts: int | None = None
    ) -> float:
        """Returns the milliseconds of a batch in a step's feed-forward part.

        Args:
            size: `BlockSize` of what the step computes with.
            routed: Whether it is a mixture of experts.
            experts: How many it has; None for all that were measured.
        """
        if not routed:
            return self.grids["dense"].at(size.hidden)
        grid = self.grids["routed"]
        return grid.at(grid.axes[0][-1] if experts is None else experts, size.hidden)

    def forward(self, config: WideNetConfig) -> float:
        """Returns the milliseconds of a batch in a whole model.

        Args:
            config: Its `WideNetConfig`; see `check`.
        """
        routed = set(config.routed_steps)
        return self.rest + sum(
            self.attention(size)
            + self.feed_forward(size, step in routed, config.num_experts)
            for step, size in enumerate(config.sizes_of_steps)
        )

    def check(self, config: WideNetConfig, dtype: str | None = None):
        """Raises `ValueError` unless the table is for a model.

        That is the one that was measured, or one of its shape with smaller parts.

        Args:
            config: `WideNetConfig` of the model.
            dtype: Name of its dtype policy; None for that of the table.
        """
        other = facts_of(config) | ({} if dtype is None else {"dtype": dtype})
        if "routed" not in self.grids:
            # That there are any is told below.
            other = {name: other[name] for name in other if name not in _OF_EXPERTS}
        # Tables of before do not name the engine.
        mine = {"engine": "auto", **self.model}
        differ = [name for name in other if mine.get(name) != other[name]]
        if differ:
            mine, found = (
                ", ".join(f"{name} {facts.get(name)}" for name in differ)
                for facts in (mine, other)
            )
            raise self._foreign(printable(mine), found)
        for kind, sizes in sizes_of(config).items():
            if kind not in self.grids:
                raise self._foreign(*_MISSING[kind])
            for name, points, (_, size) in zip(
                AXES[kind], self.grids[kind].axes, sizes, strict=True
            ):
                if size > points[-1]:
                    most = f"{name} up to {points[-1]} of {kind} parts"
                    raise self._foreign(most, f"{name} {size}")

    def _foreign(self, mine, found):
        return ValueError(
            f"{self.origin} was measured for {mine} and the model has {found}; run "
            "`widenet measure` on the model."
        )

    def write(self, path: Path | str):
        """Writes the table as a JSON file.

        Args:
            path: The file to make or replace.
        """
        grids = {
            kind: {
                **dict(zip(AXES[kind], map(list, grid.axes), strict=True)),
                "milliseconds": grid.milliseconds.tolist(),
            }
            for kind, grid in self.grids.items()
        }
        facts = {"model": self.model, "measured": self.measured}
        times = {"rest": self.rest, "whole": self.whole}
        write_json(path, {"format": _FORMAT, **facts, **times, **grids})

    @classmethod
    def read(cls, path: Path | str) -> "LatencyTable":
        """Returns the table in a file.

        Args:
            path: The file that `widenet measure` wrote.

        Raises:
            ValueError: If there is no such table in it.
        """
        remedy = "write it anew with `widenet measure MODEL --output TABLE`"
        if not Path(path).is_file():
            raise ValueError(f"{printable(path)} is no file; {remedy}.")
        content = read_json(path, remedy)
        if content.get("format") != _FORMAT:
            raise ValueError(
                f"{printable(path)} is no latency table of this version; {remedy}."
            )
        try:
            return cls._of(content, printable(path))
        except (
            ArithmeticError,
            AttributeError,
            KeyError,
            TypeError,
            ValueError,
        ) as error:
            reason = f"no {error}" if isinstance(error, KeyError) else error
            raise ValueError(
                f"{printable(path)} is damaged ({printable(reason)}); {remedy}."
            ) from None

    @classmethod
    def _of(cls, content, origin):
        times = {name: content[name] for name in ("rest", "whole")}
        if not all(is_number(t) and 0 <= t < math.inf for t in times.values()):
            raise ValueError("times are no positive numbers")
        grids = {
            kind: Grid.of(
                [content[kind][name] for name in names], content[kind]["milliseconds"]
            )
            for kind, names in AXES.items()
            if kind in content
        }
        if "attention" not in grids or len(grids) < 2:
            raise ValueError("it has not the times of all parts")
        model, measured = dict(content["model"]), dict(content["measured"])
        return cls(model, measured, **times, grids=grids, origin=origin)


def facts_of(config: WideNetConfig) -> dict:
    """Returns what models have in common that one table is for, besides their sizes.

    Args:
        config: `WideNetConfig`.
    """
    facts = {name: getattr(config, name) for name in _FACTS}
    if config.pooling == "attention":
        # Of the MLP in its head.
        facts["mlp_dim"] = config.mlp_dim
    if config.routed_steps:
        facts |= {name: getattr(config, name) for name in _OF_EXPERTS}
    return facts


def sizes_of(config: WideNetConfig) -> dict[str, list[tuple[int, int]]]:
    """Returns the range of sizes on each axis of each kind of part of a model.

    Args:
        config: `WideNetConfig`.

    Raises:
        ValueError: If tokens attend in groups, of which tables say nothing.
    """
    if max(config.groups_of_steps.counts) > 1:
        raise ValueError(
            "A latency table is for attention without groups and the model has "
            f"attention_groups={config.attention_groups}; use measure='flops'."
        )
    check_one_path("A latency table", config)
    routed = set(config.routed_blocks)
    heads, keys, values, _ = (max(axis) for axis in zip(*config.sizes, strict=True))
    found = {"attention": [(1, heads), (1, keys), (1, values)]}
    hidden = {"dense": [], "routed": []}
    for block, size in enumerate(config.sizes):
        hidden["routed" if block in routed else "dense"].append(size.hidden)
    if hidden["dense"]:
        found["dense"] = [(1, max(hidden["dense"]))]
    if hidden["routed"]:
        experts = config.top_k, config.num_experts
        found["routed"] = [experts, (1, max(hidden["routed"]))]
    return found
