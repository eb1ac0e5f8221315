"""`widenet untie`: a shared or relaxed model as a plain one."""

import dataclasses

from widenet_keras.cli.conversion import Conversion


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
