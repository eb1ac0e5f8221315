"""`widenet merge`: a tuned model as it ships."""

import dataclasses

from widenet_keras.cli.conversion import Conversion


@dataclasses.dataclass(kw_only=True)
class Merge(Conversion):
    """Make banks of adapters one, and add LoRA of unshared blocks to their products."""

    command = "merge"
    exact = "all answers, but for rounding where LoRA is added"

    def convert(self, model):
        """Returns the merged model."""
        from widenet_keras.conversions.merge import merge

        return merge(model)
