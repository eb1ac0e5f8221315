"""The updates of the optimizers on torch, of all variables at once.

Keras updates the variables of an optimizer that is not its own one by one, which costs
a ViT of 196 tensors ten times what the arithmetic does. The numbers are those of
`update_step`, up to the order of a product.
"""

from collections.abc import Sequence

import torch
from keras.src.backend.common.stateless_scope import in_stateless_scope

from widenet_keras.utils.types import Tensor


class AllAtOnce:
    """Mixin of a Keras optimizer with a method `update_all`; it comes first.

    Clipping by the norm of all gradients, accumulation and the moving average, which
    Keras also does one by one, are those of Keras otherwise.
    """

    def update_all(
        self,
        gradients: Sequence[Tensor],
        weights: Sequence[Tensor],
        index: Sequence[int],
        learning_rate: Tensor,
    ) -> bool:
        """Updates all weights in place; returns False if it cannot.

        Args:
            gradients: List of tensors.
            weights: List of tensors like them.
            index: Their places among the variables of the optimizer.
            learning_rate: Scalar tensor, without the factors of groups.
        """
        raise NotImplementedError

    @torch.no_grad()
    def _backend_update_step(self, gradients, variables, learning_rate):
        index = [self._get_variable_index(variable) for variable in variables]
        if not in_stateless_scope():
            gradients = [
                gradient.to(variable._value.dtype)
                for gradient, variable in zip(gradients, variables, strict=True)
            ]
            rate = torch.as_tensor(
                getattr(learning_rate, "value", learning_rate), dtype=torch.float32
            )
            if self.update_all(gradients, values(variables), index, rate) is not False:
                return
        super()._backend_update_step(gradients, variables, learning_rate)

    def _clip_gradients(self, gradients):
        if not (self.global_clipnorm and self.global_clipnorm > 0) or self.clipnorm:
            return super()._clip_gradients(gradients)
        present = [gradient for gradient in gradients if gradient is not None]
        norm = torch.stack(torch._foreach_norm(present)).square().sum().sqrt()
        scale = self.global_clipnorm * torch.clamp(
            1.0 / norm, max=1.0 / self.global_clipnorm
        )
        # No number times anything is no number, also where the norm is infinite.
        scaled = iter(torch._foreach_mul(present, scale + (norm - norm)))
        return [None if gradient is None else next(scaled) for gradient in gradients]

    @torch.no_grad()
    def _backend_reset_gradient_accumulators(self):
        if in_stateless_scope():
            return super()._backend_reset_gradient_accumulators()
        there = [total for total in self._accumulated_gradients if total is not None]
        return torch._foreach_zero_(values(there))

    @torch.no_grad()
    def _backend_increment_gradient_accumulators(self, gradients, accumulated):
        if in_stateless_scope():
            return super()._backend_increment_gradient_accumulators(
                gradients, accumulated
            )
        return torch._foreach_add_(values(accumulated), gradients)

    @torch.no_grad()
    def _update_model_variables_moving_average(self, variables):
        pairs = zip(variables, self._model_variables_moving_average, strict=True)
        pairs = [pair for pair in pairs if pair[1] is not None]
        if in_stateless_scope() or not self.use_ema or not pairs:
            return super()._update_model_variables_moving_average(variables)
        weights, averages = map(values, zip(*pairs, strict=True))
        # The first average is the weights themselves.
        momentum = (updates(self) != 0) * self.ema_momentum
        torch._foreach_mul_(averages, momentum)
        torch._foreach_add_(averages, torch._foreach_mul(weights, 1 - momentum))
        return None


def values(variables):
    """Returns the parameters of Keras variables, a list."""
    return [variable._value for variable in variables]


def updates(optimizer):
    """Returns how many updates there were before this one, a scalar tensor."""
    batches = optimizer._iterations._value
    return batches // (optimizer.gradient_accumulation_steps or 1)


def adam_update(optimizer, gradients, weights, index, rate):
    """As `AdamW.update_step`; see `AllAtOnce.update_all`."""
    if optimizer.amsgrad:
        return False
    decay(optimizer, weights, index, rate)
    first, second = _moments(optimizer, gradients, index)
    count = updates(optimizer).float() + 1
    alpha = rate * (1 - optimizer.beta_2**count).sqrt() / (1 - optimizer.beta_1**count)
    below = torch._foreach_sqrt(second)
    torch._foreach_add_(below, optimizer.epsilon)
    if alpha.is_cuda:
        # A scalar of the host would wait for the device.
        torch._foreach_div_(below, alpha)
        scalars = [-factor for factor in _factors(optimizer, index)]
    else:
        scalars = [-alpha.item() * factor for factor in _factors(optimizer, index)]
    torch._foreach_addcdiv_(weights, first, below, scalars)
    return None


def sgd_update(optimizer, gradients, weights, index, rate):
    """As `SGD.update_step`; see `AllAtOnce.update_all`."""
    decay(optimizer, weights, index, rate)
    update = _by_group(optimizer, torch._foreach_mul(gradients, -rate), index)
    if optimizer.momentum:
        velocity = values(optimizer.momentums[i] for i in index)
        torch._foreach_mul_(velocity, optimizer.momentum)
        torch._foreach_add_(velocity, update)
        if optimizer.nesterov:
            torch._foreach_add_(update, velocity, alpha=optimizer.momentum)
        else:
            update = velocity
    torch._foreach_add_(weights, update)


def lamb_update(optimizer, gradients, weights, index, rate):
    """As `Lamb.update_step`; see `AllAtOnce.update_all`."""
    first, second = _moments(optimizer, gradients, index)
    count = updates(optimizer).float() + 1
    below = torch._foreach_div(second, 1 - optimizer.beta_2**count)
    torch._foreach_sqrt_(below)
    torch._foreach_add_(below, optimizer.epsilon)
    update = torch._foreach_div(first, 1 - optimizer.beta_1**count)
    torch._foreach_div_(update, below)
    for size in {optimizer._decays[i] for i in index} - {0}:
        places = [p for p, i in enumerate(index) if optimizer._decays[i] == size]
        torch._foreach_add_(
            [update[p] for p in places], [weights[p] for p in places], alpha=size
        )
    ratios = _trust_ratios(optimizer, weights, update, index)
    if ratios:
        torch._foreach_mul_([update[p] for p in ratios], list(ratios.values()))
    torch._foreach_mul_(update, rate)
    torch._foreach_sub_(weights, _by_group(optimizer, update, index))


def _moments(optimizer, gradients, index):
    """Updates both moments; returns them, two lists."""
    first = values(optimizer._momentums[i] for i in index)
    second = values(optimizer._velocities[i] for i in index)
    torch._foreach_lerp_(first, gradients, 1 - optimizer.beta_1)
    torch._foreach_mul_(second, optimizer.beta_2)
    torch._foreach_addcmul_(second, gradients, gradients, value=1 - optimizer.beta_2)
    return first, second


def decay(optimizer, weights, index, rate):
    """Takes decoupled weight decay off the weights, w <- w - rate * decay * w."""
    groups = {}
    for place, i in enumerate(index):
        if optimizer._decays[i]:
            size = optimizer._decays[i] * optimizer._factors[i]
            groups.setdefault(size, []).append(weights[place])
    for size, mine in groups.items():
        torch._foreach_mul_(mine, 1 - rate * size)


def _factors(optimizer, index):
    """Returns the factors of the rate of some variables, a list."""
    return [optimizer._factors[i] for i in index]


def _by_group(optimizer, update, index):
    """Returns updates times the factors of their groups."""
    factors = _factors(optimizer, index)
    if any(factor != 1.0 for factor in factors):
        torch._foreach_mul_(update, factors)
    return update


def _trust_ratios(optimizer, weights, update, index):
    """Returns a dict from the place of each weight that has one to its ratio."""
    ratios, whole = {}, []
    for place, i in enumerate(index):
        if optimizer._adapted[i] and optimizer._stacked[i]:
            axes = tuple(range(1, weights[place].ndim))
            norms = (
                torch.linalg.vector_norm(each, dim=axes, keepdim=True)
                if axes
                else each.abs()
                for each in (weights[place], update[place])
            )
            ratios[place] = _ratio(*norms)
        elif optimizer._adapted[i]:
            whole.append(place)
    if whole:
        norms = (
            torch.stack(torch._foreach_norm([each[place] for place in whole]))
            for each in (weights, update)
        )
        ratios |= zip(whole, _ratio(*norms).unbind(), strict=True)
    return ratios


def _ratio(norm, size):
    """Returns |weight| / |update|, 1 where either is 0."""
    usable = (norm > 0) & (size > 0)
    return torch.where(usable, norm / torch.where(usable, size, 1.0), 1.0)
