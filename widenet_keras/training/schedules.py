"""Learning rates over the batches of a run."""

import math

import keras
from keras import ops

from widenet_keras.utils.checks import check_choice, check_integer, check_number

DECAYS = ("linear", "cosine", "constant")


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
        total_steps: Batches of the run.
        warmup_steps: W, batches of the warm-up.
        decay: "linear", "cosine" or "constant".
        final: Learning rate at the end of the run.

    Raises:
        ValueError: If a value is out of range; the line says what is allowed.
    """

    def __init__(self, peak, total_steps, warmup_steps=0, decay="linear", final=0.0):
        super().__init__()
        check_number("WarmupDecay", "peak", peak, 0.0)
        check_number("WarmupDecay", "final", final, 0.0)
        check_integer("WarmupDecay", "total_steps", total_steps, 1)
        check_integer("WarmupDecay", "warmup_steps", warmup_steps, 0)
        check_choice("WarmupDecay", "decay", decay, DECAYS)
        if warmup_steps > total_steps:
            raise ValueError(
                f"WarmupDecay: warmup_steps={warmup_steps} is more than "
                f"total_steps={total_steps}; warm up for less, or train for longer."
            )
        self.peak = peak
        self.total_steps = total_steps
        self.warmup_steps = warmup_steps
        self.decay = decay
        self.final = final

    def __call__(self, step):
        """Returns the learning rate of batch `step`, counted from 0."""
        step = ops.cast(step, "float32")
        rest = max(self.total_steps - self.warmup_steps, 1)
        x = ops.clip((step - self.warmup_steps) / rest, 0.0, 1.0)
        height = {
            "linear": 1.0 - x,
            "cosine": (1.0 + ops.cos(math.pi * x)) / 2.0,
            "constant": ops.ones_like(x),
        }[self.decay]
        rate = self.final + (self.peak - self.final) * height
        if not self.warmup_steps:
            return rate
        warming = self.peak * (step + 1.0) / self.warmup_steps
        return ops.where(step < self.warmup_steps, warming, rate)

    def get_config(self):
        """Returns the constructor's arguments."""
        return {
            "peak": self.peak,
            "total_steps": self.total_steps,
            "warmup_steps": self.warmup_steps,
            "decay": self.decay,
            "final": self.final,
        }
