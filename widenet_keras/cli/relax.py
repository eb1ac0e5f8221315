"""`widenet relax`: a shared model whose steps keep low-rank changes."""

import dataclasses
from typing import Literal

from widenet_keras.cli.checks import check_at_least
from widenet_keras.cli.conversion import Conversion, say
from widenet_keras.cli.tie import Tie


@dataclasses.dataclass(kw_only=True)
class Relax(Conversion):
    """Share blocks and keep by what they differ as LoRA of each step.

    At full rank the answers are those of the model; below, train the result.
    """

    command = "relax"

    rank: int
    """Rank of what each step keeps of a product; 0 for nothing, as tie."""
    sharing: Literal["all", "sequence", "cycle", "attention", "feed_forward"] = "cycle"
    """Which block a step reads, or the part that is shared."""
    unique_blocks: int | None = None
    """How many blocks are left; if not given half of them, for sequence and cycle."""
    base: Literal["auto", "stepwise", "average", "lower"] = "auto"
    """What shared blocks start from: copies at even distances, the mean, or the first
    ones. Auto is average, for rank 0 stepwise."""
    start: Literal["svd", "zero"] = "svd"
    """What LoRA starts from: the nearest of the rank, or no change."""
    seed: int = 0
    """Seed of --start zero."""

    @property
    def exact(self):
        """What of the model stays, a line."""
        if self.rank == 0 or self.start == "zero":
            return Tie.exact
        return (
            "norms, biases, embedding and head; answers at full rank; of every product "
            "the nearest of the rank"
        )

    def check(self):
        """Says what is wrong with the words, before Keras is imported."""
        super().check()
        check_at_least("relax", "--rank", self.rank, 0)
        check_at_least("relax", "--unique-blocks", self.unique_blocks)
        check_at_least("relax", "--seed", self.seed, 0)

    def convert(self, model):
        """Returns the relaxed model."""
        from widenet_keras.conversions.relax import relax

        return relax(
            model,
            self.rank,
            sharing=self.sharing,
            unique_blocks=self.unique_blocks,
            base=self.base,
            start=self.start,
            seed=self.seed,
            say=say,
        )
