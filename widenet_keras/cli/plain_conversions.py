"""`widenet extract`, `merge` and `untie`: conversions of one model, with few flags."""

import dataclasses

from widenet_keras.cli.conversion import Conversion


@dataclasses.dataclass(kw_only=True)
class Extract(Conversion):
    """Keep the first hidden units of each feed-forward part, as nested widths train.

    A model that was not trained with nested_widths needs training then.
    """

    command = "extract"
    exact = "what the model computes with these hidden units alone"

    width: int | float | None = None
    """Part of the hidden units that stays, such as 0.25, or how many, such as 384; 1
    is one of them, 1.0 all."""
    widths: tuple[int | float, ...] | None = None
    """The same for each unique block or each step, one after the other."""

    def check(self):
        """Says what is wrong with the words, before Keras is imported."""
        super().check()
        if (self.width is None) == (self.widths is None):
            raise ValueError(
                "give either --width, such as 0.25, or --widths with one for each "
                "block or step."
            )

    def convert(self, model):
        """Returns the model of these hidden units alone."""
        from widenet_keras.conversions.extract import extract

        return extract(model, self.width, self.widths)


@dataclasses.dataclass(kw_only=True)
class Merge(Conversion):
    """Make banks of adapters one, and add LoRA of unshared blocks to their products."""

    command = "merge"
    exact = "all answers, but for rounding where LoRA is added"

    def convert(self, model):
        """Returns the merged model."""
        from widenet_keras.conversions.merge import merge

        return merge(model)


@dataclasses.dataclass(kw_only=True)
class Untie(Conversion):
    """Give every step a block of its own again, with LoRA added to its products.

    Kernels that are read from a ring are written out.
    """

    command = "untie"
    exact = "all answers, but for rounding"

    def convert(self, model):
        """Returns the model that shares nothing."""
        from widenet_keras.conversions.untie import untie

        return untie(model)
