"""`widenet prune-prompts`: the prompts that matter most, to be tuned once more."""

import dataclasses
from pathlib import Path

from widenet_keras.cli.checks import check_at_least, check_exists, check_part
from widenet_keras.cli.with_images import WithImages


@dataclasses.dataclass(kw_only=True)
class PrunePrompts(WithImages):
    """Take out the prompts that matter least; those that are left begin anew.

    Train the result: it is a start.
    """

    command = "prune-prompts"
    exact = "all weights but prompts"
    compares = False

    images: int = 512
    """How many of the images to look at, at most."""
    keep: float = 0.5
    """Which part of the prompts stays."""
    segments_keep: float = 1.0
    """Which part of the segments of these that are not zeros yet stays."""
    start: Path | None = None
    """The .keras file before it was tuned, whose prompts those that stay return to;
    otherwise they are drawn."""
    seed: int = 0
    """Seed of that draw."""

    def check(self):
        """Says what is wrong with the words, before Keras is imported."""
        if self.start is not None:
            check_exists(self.start, "the .keras file before it was tuned")
        super().check()
        check_at_least("prune-prompts", "--seed", self.seed, 0)
        check_part("prune-prompts", "--keep", self.keep)
        check_part("prune-prompts", "--segments-keep", self.segments_keep)

    def inputs(self):
        """Returns the files that are read."""
        return [*super().inputs(), *([] if self.start is None else [self.start])]

    def convert(self, model):
        """Returns the model with fewer prompts."""
        from widenet_keras.conversions.prune_prompts import (
            checked_prompt,
            prune_prompts,
        )
        from widenet_keras.files.loading import load_classifier
        from widenet_keras.utils.memory import memory_of

        start = self.start
        if start is not None:
            start = load_classifier(start, max_memory=memory_of(self.max_memory))
        # Before images are read, which may take long.
        checked_prompt(model, self.segments_keep, start)
        images, labels = self.looked_at(model)
        return prune_prompts(
            model,
            images,
            labels,
            keep=self.keep,
            segments_keep=self.segments_keep,
            batch_size=self.batch_size,
            start=start,
            seed=self.seed,
        )
