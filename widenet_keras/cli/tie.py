"""`widenet tie`: a shared model from an unshared one."""

import dataclasses
from typing import Literal

from widenet_keras.cli.checks import check_at_least
from widenet_keras.cli.conversion import Conversion

_OF_EXPERTS = ("num_experts", "top_k")


@dataclasses.dataclass(kw_only=True)
class Tie(Conversion):
    """Start a model that shares its blocks from one that does not.

    Train the result: it is a start. `--moe-blocks all` makes experts of feed-forward
    parts, as a WideNet has them.
    """

    command = "tie"
    exact = "norms, embedding and head; answers only where all blocks are equal"

    sharing: Literal["all", "sequence", "cycle", "attention", "feed_forward"] = "all"
    """Which block a step reads, or the part that is shared."""
    unique_blocks: int | None = None
    """How many blocks are left, for sequence and cycle; for a part, in how many groups
    of neighbours it is shared."""
    base: Literal["auto", "stepwise", "average", "lower"] = "auto"
    """What shared blocks start from: copies at even distances, the mean, or the first
    ones. Auto is average with experts, else stepwise."""
    moe_blocks: Literal["none", "all"] = "none"
    """Which blocks of the result are mixtures of experts."""
    num_experts: int | None = None
    """Experts of a mixture, with --moe-blocks all."""
    top_k: int | None = None
    """Experts per token, with --moe-blocks all."""
    seed: int = 0
    """Seed of new routers."""

    def check(self):
        """Says what is wrong with the words, before Keras is imported."""
        super().check()
        for name in ("unique_blocks", *_OF_EXPERTS):
            flag = f"--{name.replace('_', '-')}"
            check_at_least("tie", flag, getattr(self, name))
            of_experts = name in _OF_EXPERTS and getattr(self, name) is not None
            if of_experts and self.moe_blocks == "none":
                raise ValueError(
                    f"{flag} {getattr(self, name)} is of mixtures of experts and the "
                    "result has none; give --moe-blocks all as well, or leave it out."
                )
        check_at_least("tie", "--seed", self.seed, 0)

    def convert(self, model):
        """Returns the shared model."""
        from widenet_keras.conversions.tie import tie

        said = {name: getattr(self, name) for name in _OF_EXPERTS}
        return tie(
            model,
            base=self.base,
            seed=self.seed,
            sharing=self.sharing,
            unique_blocks=self.unique_blocks,
            moe_blocks=self.moe_blocks,
            **{name: value for name, value in said.items() if value is not None},
        )
