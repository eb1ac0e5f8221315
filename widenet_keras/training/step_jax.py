"""Train and test step on JAX."""

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import jax
import keras

from widenet_keras.training.batches_jax import (
    batches_on_all_devices,
    on_every_device,
)
from widenet_keras.training.objective import Objective, TrainingLoss
from widenet_keras.training.terms import Term
from widenet_keras.utils.types import Tensor


class TrainStep(Objective):
    """Mixin with stateless `train_step` and `test_step` for `jax.jit`."""

    _lent = ()

    @property
    def non_trainable_variables(self) -> list[keras.Variable]:
        """Those of the model, and in training what terms of the objective read.

        This is what the loops of Keras hand to a compiled program as its state, and
        take back; weights that it is not handed become constants of it.
        """
        return [*super().non_trainable_variables, *self.term_variables]

    def train_step(self, state: Any, data: Any) -> tuple[dict[str, Tensor], Any]:
        """Trains on one batch; returns the logs and the new state."""
        trainable, non_trainable, optimizer_variables, metrics_variables = state
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)

        def scaled_loss(trainable):
            with self._scope(trainable, non_trainable) as scope:
                loss = self.training_loss(
                    lambda: self.made_of(x, training=True),
                    lambda logits: self.compute_loss(
                        x, y, logits, sample_weight, training=True
                    ),
                    x,
                    sample_weight,
                )
            after = [scope.get_current_value(v) for v in self.non_trainable_variables]
            mapping = zip(self.optimizer.variables, optimizer_variables, strict=True)
            with keras.StatelessScope(state_mapping=list(mapping)):
                scaled = self.optimizer.scale_loss(loss.total)
            return scaled, (loss, after)

        gradients, (loss, non_trainable) = jax.grad(scaled_loss, has_aux=True)(
            trainable
        )
        trainable, optimizer_variables = self.optimizer.stateless_apply(
            optimizer_variables, gradients, trainable
        )
        logs, metrics_variables = self._logs(
            metrics_variables, loss, x, y, sample_weight
        )
        return logs, (trainable, non_trainable, optimizer_variables, metrics_variables)

    def test_step(self, state: Any, data: Any) -> tuple[dict[str, Tensor], Any]:
        """Evaluates one batch; returns the logs, whose `loss` is the task loss."""
        trainable, non_trainable, metrics_variables = state
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        (logits, record), non_trainable = self.stateless_call(
            trainable, non_trainable, x, training=False, return_routing=True
        )
        with self._scope(trainable, non_trainable):
            loss = self.compute_loss(x, y, logits, sample_weight, training=False)
        loss = TrainingLoss(loss, loss, {}, logits, record)
        logs, metrics_variables = self._logs(
            metrics_variables, loss, x, y, sample_weight
        )
        return logs, (trainable, non_trainable, metrics_variables)

    def predict_step(self, state: Any, data: Any) -> tuple[Tensor, Any]:
        """Returns the logits of one batch, and the model's state."""
        logits, non_trainable = super().predict_step(state, data)
        return on_every_device(logits), non_trainable

    def whole_batches(self, data_of_own_rows: Any = None) -> AbstractContextManager:
        """Context in which batches of any size go to the devices of a distribution."""
        return batches_on_all_devices(data_of_own_rows)

    def check_devices(self, term: Term) -> None:
        """Raises `ValueError` if what a term reads is not where the model is."""
        here = self.variables[0].value.sharding.device_set
        if any(v.value.sharding.device_set != here for v in term.variables):
            raise ValueError(
                f"compile: the teacher of {term.name!r} is not on the {len(here)} "
                "devices of the model; make or load it inside distribution.scope() as "
                "well."
            )

    def unshare_buffers(self) -> None:
        """Gives every variable a buffer of its own, since training donates them.

        Keras 3.15 ends a `fit` with a moving average by pointing the weights at
        the buffers of the average; a second `fit` would donate them twice.
        """
        seen = set()
        held = [*self.variables, *self.optimizer.variables, *self.term_variables]
        for variable in held:
            value = variable._value
            # An error in a step may leave none, and has more to tell than this.
            if value is None or value.is_deleted():
                continue
            if id(value) in seen:
                variable.assign(jax.numpy.copy(value))
            seen.add(id(variable.value))

    @contextlib.contextmanager
    def evaluates(self) -> Iterator[None]:
        """Context of evaluation and prediction; an error gives the weights back.

        Only `fit` does that by itself.
        """
        with super().evaluates():
            try:
                yield
            except BaseException:
                self.jax_state_sync()
                raise

    def jax_state_sync(self) -> None:
        """Gives the model what the loops of Keras have, as it was lent if need be.

        They lend it before the first batch, which may fail.
        """
        super().jax_state_sync()
        for variable, value in self._lent:
            if variable._value is None and not value.is_deleted():
                variable.assign(value)
        vars(self)["_lent"] = ()

    def _get_jax_state(self, **parts):
        if parts.get("purge_model_variables"):
            optimizer = getattr(getattr(self, "optimizer", None), "variables", [])
            lent = [*self.variables, *optimizer, *self.metrics_variables]
            lent += self.term_variables
            # Not as an attribute, in which Keras would see new state.
            vars(self)["_lent"] = tuple((each, each.value) for each in lent)
        return super()._get_jax_state(**parts)

    def _scope(self, trainable, non_trainable):
        """Context in which the model has these values, and all that it reads."""
        variables = [*self.trainable_variables, *self.non_trainable_variables]
        values = [*trainable, *non_trainable]
        mapping = list(zip(variables, values, strict=True))
        return keras.StatelessScope(state_mapping=mapping)

    def _logs(self, metrics_variables, loss, x, y, sample_weight):
        """Updates all metrics statelessly; returns the logs and their state."""
        mapping = zip(self.metrics_variables, metrics_variables, strict=True)
        with keras.StatelessScope(state_mapping=list(mapping)) as scope:
            self._loss_tracker.update_state(loss.total, sample_weight=x.shape[0])
            self.track(loss.task, loss.record, x.shape[0], loss.terms)
            logs = self.compute_metrics(x, y, loss.logits, sample_weight=sample_weight)
        updated = []
        for variable, before in zip(
            self.metrics_variables, metrics_variables, strict=True
        ):
            after = scope.get_current_value(variable)
            updated.append(before if after is None else after)
        return logs, updated
