"""AdamW, SGD and LAMB that know norms, biases and the groups of a WideNet.

Clipping, gradient accumulation, loss scaling and the moving average of the
weights are those of Keras (`global_clipnorm`, `gradient_accumulation_steps`,
`use_ema`). Learning-rate schedules count batches, accumulated ones too.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from widenet_keras.optimizers.parameter_groups import (
    checked_rates,
    group_of,
    is_decayed,
    is_stacked,
)
from widenet_keras.utils.checks import check_choice, check_number
from widenet_keras.utils.types import Tensor

if keras.backend.backend() == "torch":
    from widenet_keras.optimizers import optimizers_torch as _at_once

    _AllAtOnce = _at_once.AllAtOnce
else:
    _at_once, _AllAtOnce = None, object


class _Grouped(_AllAtOnce):
    """Mixin: learning rates by group, and decay of what should decay."""

    def _take_settings(self, weight_decay, rates):
        check_number(type(self).__name__, "weight_decay", weight_decay, 0.0)
        self.rates = checked_rates(type(self).__name__, rates)
        # Keras' own decay stays off: it has one rate for all variables, and
        # forgets when saved which of them it leaves out.
        self.decay = float(weight_decay)

    def build(self, variables: Sequence[keras.Variable]) -> None:
        """Makes the state for the trainable variables of a model."""
        if self.built:
            return
        self._factors = [self.rates[group_of(v)] for v in variables]
        self._decays = [self.decay * is_decayed(v) for v in variables]
        self._stacked = [is_stacked(v) for v in variables]
        super().build(variables)

    def _rate(self, variable, learning_rate):
        factor = self._factors[self._get_variable_index(variable)]
        return ops.cast(learning_rate, variable.dtype) * factor

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "weight_decay": self.decay,
            "rates": dict(self.rates),
        }


class _Decoupled(_Grouped):
    """Mixin: weight decay beside the update, w <- w - rate * decay * w."""

    def update_step(
        self, gradient: Tensor, variable: keras.Variable, learning_rate: Tensor
    ) -> None:
        """Updates one variable, decay first."""
        rate = self._rate(variable, learning_rate)
        decay = self._decays[self._get_variable_index(variable)]
        if decay:
            self.assign_sub(variable, variable * (rate * decay))
        super().update_step(gradient, variable, rate)


@keras.saving.register_keras_serializable("widenet_keras")
class AdamW(_Decoupled, keras.optimizers.Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter, arXiv 1711.05101).

    Args:
        learning_rate: Float or `LearningRateSchedule`.
        weight_decay: Decay, times the learning rate; norms, biases and the
            position table are left out.
        rates: Dict from group ("embedding", "core", "norms", "pieces", "head") to a
            factor of the learning rate; 0 freezes a group, 1 is the default.
        **kwargs: As for `keras.optimizers.Adam`.

    Raises:
        ValueError: If a value is out of range; the line says what is allowed.
    """

    def __init__(
        self,
        learning_rate: Any = 1e-3,
        weight_decay: float = 0.05,
        rates: Mapping[str, float] | None = None,
        **kwargs: Any,
    ):
        super().__init__(learning_rate=learning_rate, **kwargs)
        self._take_settings(weight_decay, rates)

    def update_all(self, *arguments: Any) -> bool:
        """Updates all variables, on torch; as `update_step` does one."""
        return _at_once.adam_update(self, *arguments)


@keras.saving.register_keras_serializable("widenet_keras")
class SGD(_Decoupled, keras.optimizers.SGD):
    """SGD with momentum and decoupled weight decay.

    Args:
        learning_rate: Float or `LearningRateSchedule`.
        momentum: From 0.0 to 1.0.
        weight_decay: As for `AdamW`.
        rates: As for `AdamW`.
        **kwargs: As for `keras.optimizers.SGD`.
    """

    def __init__(
        self,
        learning_rate: Any = 0.03,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        rates: Mapping[str, float] | None = None,
        **kwargs: Any,
    ):
        super().__init__(learning_rate=learning_rate, momentum=momentum, **kwargs)
        self._take_settings(weight_decay, rates)

    def update_all(self, *arguments: Any) -> bool:
        """Updates all variables, on torch; as `update_step` does one."""
        return _at_once.sgd_update(self, *arguments)


@keras.saving.register_keras_serializable("widenet_keras")
class Lamb(_Grouped, keras.optimizers.Optimizer):
    """LAMB, with the weight decay inside the trust ratio.

    For every weight w with gradient g at update t = 1, 2, ...:

        m <- beta_1 m + (1 - beta_1) g;      v <- beta_2 v + (1 - beta_2) g^2
        u = (m / (1 - beta_1^t)) / (sqrt(v / (1 - beta_2^t)) + epsilon) + decay w
        w <- w - rate * (|w| / |u|) * u

    and the ratio is 1 where |w| or |u| is 0. Each expert of a bank and each
    step's norm has a ratio of its own, as if they were stored apart. Source:
    You et al., arXiv 1904.00962, algorithm 2 with phi the identity. (Keras'
    `Lamb` takes the decay out of u, which is another optimizer once it is > 0.)

    Args:
        learning_rate: Float or `LearningRateSchedule`.
        weight_decay: Decay inside u; norms, biases and the position table are
            left out.
        beta_1: Decay of the first moment.
        beta_2: Decay of the second moment.
        epsilon: Added to the root of the second moment.
        rates: As for `AdamW`.
        adapt: Which weights have a trust ratio: "all", as in the paper, or
            "decayed", as in the authors' BERT code, which updates norms and biases
            as Adam does.
        **kwargs: As for `keras.optimizers.Optimizer`.

    Raises:
        ValueError: If a value is out of range; the line says what is allowed.
    """

    def __init__(
        self,
        learning_rate: Any = 1e-2,
        weight_decay: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-6,
        rates: Mapping[str, float] | None = None,
        adapt: str = "all",
        **kwargs: Any,
    ):
        super().__init__(learning_rate=learning_rate, **kwargs)
        check_number("Lamb", "beta_1", beta_1, 0.0, below=1.0)
        check_number("Lamb", "beta_2", beta_2, 0.0, below=1.0)
        check_number("Lamb", "epsilon", epsilon, 0.0)
        check_choice("Lamb", "adapt", adapt, ("all", "decayed"))
        self.beta_1, self.beta_2 = beta_1, beta_2
        self.epsilon, self.adapt = epsilon, adapt
        self._take_settings(weight_decay, rates)

    def update_all(self, *arguments: Any) -> bool:
        """Updates all variables, on torch; as `update_step` does one."""
        return _at_once.lamb_update(self, *arguments)

    def build(self, variables: Sequence[keras.Variable]) -> None:
        """Makes the two moments of every variable."""
        if self.built:
            return
        super().build(variables)
        self._adapted = [self.adapt == "all" or is_decayed(v) for v in variables]
        self._momentums, self._velocities = self.add_optimizer_variables(
            variables, ["momentum", "velocity"]
        )

    def update_step(
        self, gradient: Tensor, variable: keras.Variable, learning_rate: Tensor
    ) -> None:
        """Updates one variable."""
        index = self._get_variable_index(variable)
        dtype = variable.dtype
        gradient = ops.cast(gradient, dtype)
        count = ops.cast(self.iterations + 1, dtype)
        momentum, velocity = self._momentums[index], self._velocities[index]
        self.assign_add(momentum, (gradient - momentum) * (1.0 - self.beta_1))
        self.assign_add(
            velocity, (ops.square(gradient) - velocity) * (1.0 - self.beta_2)
        )
        first = momentum / (1.0 - ops.power(ops.cast(self.beta_1, dtype), count))
        second = velocity / (1.0 - ops.power(ops.cast(self.beta_2, dtype), count))
        update = first / (ops.sqrt(second) + self.epsilon)
        if self._decays[index]:
            update = update + variable * self._decays[index]
        rate = self._rate(variable, learning_rate)
        if self._adapted[index]:
            rate = rate * _trust_ratio(variable, update, self._stacked[index])
        self.assign_sub(variable, update * rate)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "beta_1": self.beta_1,
            "beta_2": self.beta_2,
            "epsilon": self.epsilon,
            "adapt": self.adapt,
        }


def _trust_ratio(weight, update, stacked):
    """Returns |weight| / |update|, 1 where either is 0; one per slice if stacked."""
    axes = tuple(range(1 if stacked else 0, len(weight.shape)))
    # A stack of numbers has no axes left; torch would take none for all of them.
    norm, size = (
        ops.sqrt(ops.sum(ops.square(x), axis=axes, keepdims=True))
        if axes
        else ops.abs(x)
        for x in (ops.convert_to_tensor(weight), update)
    )
    usable = ops.logical_and(norm > 0, size > 0)
    return ops.where(usable, norm / ops.where(usable, size, 1.0), 1.0)


OPTIMIZERS = {"lamb": Lamb, "adamw": AdamW, "sgd": SGD}
