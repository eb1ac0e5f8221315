"""`widenet extract`: a smaller model out of a nested one."""

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
