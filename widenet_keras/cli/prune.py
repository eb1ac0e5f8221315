"""`widenet prune`: a smaller model of what the loss moves most with."""

import dataclasses
from pathlib import Path
from typing import Literal

from widenet_keras.cli.checks import check_at_least, check_exists, check_part
from widenet_keras.cli.conversion import say
from widenet_keras.cli.with_images import WithImages
from widenet_keras.utils.command_line import USAGE, stop


@dataclasses.dataclass(kw_only=True)
class Prune(WithImages):
    """Take out heads, hidden units and experts that matter least for what they cost.

    Train the result a little.
    """

    command = "prune"
    exact = "what is left computes as it did, with zeros for what is gone"
    # Answers to random pixels are no measure of what the loss moves with.
    compares = False

    images: int = 2000
    """How many of the images to look at, at most."""
    target: float = 0.5
    """Which part of the cost is left, at most."""
    measure: Literal["flops", "parameters", "latency"] = "flops"
    """What the cost is; "latency" is that by --table."""
    table: Path | None = None
    """For latency: what `widenet measure` wrote where the model shall be fast."""
    rounds: int = 1
    """In how many rounds, each with gradients of its own."""
    multiple: int = 8
    """How many hidden units, and key or value dimensions, go at a time."""

    def check(self):
        """Says what is wrong with the words, before Keras is imported."""
        if self.table is not None:
            check_exists(self.table, "the file that `widenet measure` wrote")
        super().check()
        check_at_least("prune", "--rounds", self.rounds)
        check_at_least("prune", "--multiple", self.multiple)
        check_part("prune", "--target", self.target, whole=False)
        if (self.measure == "latency") != (self.table is not None):
            line = "--measure latency and --table belong together; give both, or none."
            stop("widenet prune", line, USAGE)

    def inputs(self):
        """Returns the files that are read."""
        return [*super().inputs(), *([] if self.table is None else [self.table])]

    def convert(self, model):
        """Returns the smaller model."""
        from widenet_keras.conversions.prune import checked_cost, prune

        # Before images are read, which may take long.
        checked_cost(model, self.target, self.measure, self.multiple, self.table)
        images, labels = self.looked_at(model)
        pruned = prune(
            model,
            images,
            labels,
            target=self.target,
            measure=self.measure,
            rounds=self.rounds,
            multiple=self.multiple,
            batch_size=self.batch_size,
            table=self.table,
        )
        right = (
            (each.predict(images, self.batch_size, verbose=0).argmax(-1) == labels)
            for each in (model, pruned)
        )
        before, after = (each.mean() for each in right)
        say(f"right of these images: {before:.3f} before, {after:.3f} after")
        return pruned
