"""How the weights of a run are learned, as plain values that flags can set."""

import dataclasses
from typing import Literal

import keras

from widenet_keras.optimizers.optimizers import OPTIMIZERS
from widenet_keras.optimizers.parameter_groups import checked_rates
from widenet_keras.optimizers.schedules import DECAYS, WarmupDecay
from widenet_keras.utils.checks import check_choice, check_integer, check_number

OWNER = "Optimization"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Optimization:
    """Optimizer, learning rate and what is done to gradients and weights.

    The defaults are the paper's for ImageNet. Gradients are clipped after they
    are summed over accumulated batches and over replicas.

    Raises:
        ValueError: If a field is out of range; one line says what is allowed.
    """

    optimizer: Literal["lamb", "adamw", "sgd"] = "lamb"
    """The optimizer."""
    learning_rate: float = 0.01
    """Peak learning rate."""
    final_learning_rate: float = 1e-5
    """Learning rate at the end of the run; constant stays at its peak."""
    warmup_epochs: float = 30.0
    """Epochs in which the learning rate grows to its peak."""
    decay: Literal["linear", "cosine", "constant"] = "linear"
    """How the learning rate falls after the warm-up."""
    weight_decay: float = 0.1
    """Weight decay; not of norms, biases and the position table."""
    clip_norm: float = 1.0
    """Largest global norm of the gradients; 0 clips nothing."""
    accumulate: int = 1
    """Batches whose gradients are averaged before an update."""
    ema: float = 0.0
    """Momentum per batch of the moving average of the weights; 0 keeps none."""
    beta_1: float = 0.9
    """LAMB and AdamW: decay of the first moment of the gradients."""
    beta_2: float = 0.999
    """LAMB and AdamW: decay of the second moment."""
    epsilon: float | None = None
    """LAMB and AdamW: added to the root of the second moment; the optimizer's
    default if not given."""
    momentum: float = 0.9
    """SGD: momentum."""
    rates: dict[str, float] = dataclasses.field(default_factory=dict)
    """Factors of the learning rate: embedding, core, norms, pieces, head."""

    def __post_init__(self):
        check_choice(OWNER, "optimizer", self.optimizer, tuple(OPTIMIZERS))
        check_choice(OWNER, "decay", self.decay, DECAYS)
        for field in [
            "learning_rate",
            "final_learning_rate",
            "warmup_epochs",
            "weight_decay",
            "clip_norm",
        ]:
            check_number(OWNER, field, getattr(self, field), 0.0)
        for field in ["ema", "beta_1", "beta_2", "momentum"]:
            check_number(OWNER, field, getattr(self, field), 0.0, below=1.0)
        if self.epsilon is not None:
            check_number(OWNER, "epsilon", self.epsilon, 0.0)
        check_integer(OWNER, "accumulate", self.accumulate, 1)
        if self.decay != "constant" and self.learning_rate < self.final_learning_rate:
            raise ValueError(
                f"{OWNER}: final_learning_rate={self.final_learning_rate:g} is above "
                f"the peak, learning_rate={self.learning_rate:g}; give a smaller one."
            )
        checked_rates(OWNER, self.rates)

    def build(self, batches: int, batches_per_epoch: int) -> keras.optimizers.Optimizer:
        """Returns the Keras optimizer of a run.

        Args:
            batches: Batches of the run.
            batches_per_epoch: Batches of one pass over the data.

        Raises:
            ValueError: If the warm-up or an update is longer than the run.
        """
        if self.accumulate > batches:
            raise ValueError(
                f"{OWNER}: accumulate={self.accumulate} batches make an update and the "
                f"run has {batches}; accumulate fewer, or train for longer."
            )
        schedule = WarmupDecay(
            self.learning_rate,
            batches,
            round(self.warmup_epochs * batches_per_epoch),
            self.decay,
            self.final_learning_rate,
        )
        return OPTIMIZERS[self.optimizer](
            schedule,
            weight_decay=self.weight_decay,
            rates=self.rates,
            global_clipnorm=self.clip_norm or None,
            gradient_accumulation_steps=self.accumulate
            if self.accumulate > 1
            else None,
            use_ema=self.ema > 0,
            ema_momentum=self.ema or 0.99,
            **self._of_the_optimizer(),
        )

    def _of_the_optimizer(self):
        """Returns what only this kind of optimizer takes."""
        if self.optimizer == "sgd":
            return {"momentum": self.momentum}
        own = {"beta_1": self.beta_1, "beta_2": self.beta_2, "epsilon": self.epsilon}
        return {name: value for name, value in own.items() if value is not None}
