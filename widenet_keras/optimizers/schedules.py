"""Learning rates over the batches of a run."""

import math
from typing import Any, Self

import keras
from keras import ops

from widenet_keras.utils.checks import check_choice, check_integer, check_number
from widenet_keras.utils.types import Tensor

DECAYS = ("linear", "cosine", "constant")
# What files of version 0.1.0 call the arguments.
_FORMERLY = {"total_steps": "batches", "warmup_steps": "warmup_batches"}


@keras.saving.register_keras_serializable("widenet_keras")
class WarmupDecay(keras.optimizers.schedules.LearningRateSchedule):
    """Warm-up from near zero to the peak, then decay to the final rate.

    Batch s = 0, 1, ... of W warm-up batches has peak * (s + 1) / W, so that no
    batch is wasted on a rate of 0. From then on, with x = (s - W) / (total - W)
    kept within 0 and 1, the rate is final + (peak - final) * (1 - x) for
    "linear", final + (peak - final) * (1 + cos(pi x)) / 2 for "cosine", and the
    peak for "constant".

    Args:
        peak: Highest learning rate.
        batches: Batches of the run.
        warmup_batches: W, batches of the warm-up.
        decay: "linear", "cosine" or "constant".
        final: Learning rate at the end of the run.

    Raises:
        ValueError: If a value is out of range; the line says what is allowed.
    """

    def __init__(
        self,
        peak: float,
        batches: int,
        warmup_batches: int = 0,
        decay: str = "linear",
        final: float = 0.0,
    ):
        super().__init__()
        check_number("WarmupDecay", "peak", peak, 0.0)
        check_number("WarmupDecay", "final", final, 0.0)
        check_integer("WarmupDecay", "batches", batches, 1)
        check_integer("WarmupDecay", "warmup_batches", warmup_batches, 0)
        check_choice("WarmupDecay", "decay", decay, DECAYS)
        if warmup_batches > batches:
            raise ValueError(
                f"WarmupDecay: warmup_batches={warmup_batches} is more than "
                f"batches={batches}; warm up for less, or train for longer."
            )
        self.peak = peak
        self.batches = batches
        self.warmup_batches = warmup_batches
        self.decay = decay
        self.final = final

    def __call__(self, batch: Tensor) -> Tensor:
        """Returns the learning rate of a batch, counted from 0."""
        batch = ops.cast(batch, "float32")
        rest = max(self.batches - self.warmup_batches, 1)
        x = ops.clip((batch - self.warmup_batches) / rest, 0.0, 1.0)
        height = {
            "linear": 1.0 - x,
            "cosine": (1.0 + ops.cos(math.pi * x)) / 2.0,
            "constant": ops.ones_like(x),
        }[self.decay]
        rate = self.final + (self.peak - self.final) * height
        if not self.warmup_batches:
            return rate
        warming = self.peak * (batch + 1.0) / self.warmup_batches
        return ops.where(batch < self.warmup_batches, warming, rate)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Returns the schedule of a `get_config`, of version 0.1.0 too."""
        return cls(**{_FORMERLY.get(name, name): config[name] for name in config})

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {
            "peak": self.peak,
            "batches": self.batches,
            "warmup_batches": self.warmup_batches,
            "decay": self.decay,
            "final": self.final,
        }
