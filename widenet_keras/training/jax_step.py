"""Train and test step on JAX."""

import contextlib

import jax
import keras

from widenet_keras.training.jax_batches import (
    batches_on_all_devices,
    on_every_device,
)
from widenet_keras.training.objective import Objective


class TrainStep(Objective):
    """Mixin with stateless `train_step` and `test_step` for `jax.jit`."""

    _lent = ()

    def train_step(self, state, data):
        """Trains on one batch; returns the logs and the new state."""
        trainable, non_trainable, optimizer_variables, metrics_variables = state
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)

        def scaled_loss(trainable):
            loss, parts, non_trainable_after = self._forward_losses(
                trainable, non_trainable, x, y, sample_weight, training=True
            )
            mapping = zip(self.optimizer.variables, optimizer_variables, strict=True)
            with keras.StatelessScope(state_mapping=list(mapping)):
                scaled = self.optimizer.scale_loss(loss)
            return scaled, (loss, parts, non_trainable_after)

        gradients, (loss, parts, non_trainable) = jax.grad(scaled_loss, has_aux=True)(
            trainable
        )
        trainable, optimizer_variables = self.optimizer.stateless_apply(
            optimizer_variables, gradients, trainable
        )
        logs, metrics_variables = self._logs(
            metrics_variables, loss, parts, x, y, sample_weight
        )
        return logs, (trainable, non_trainable, optimizer_variables, metrics_variables)

    def test_step(self, state, data):
        """Evaluates one batch; returns the logs, whose `loss` is the task loss."""
        trainable, non_trainable, metrics_variables = state
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        _, parts, non_trainable = self._forward_losses(
            trainable, non_trainable, x, y, sample_weight, training=False
        )
        task_loss = parts[0]
        logs, metrics_variables = self._logs(
            metrics_variables, task_loss, parts, x, y, sample_weight
        )
        return logs, (trainable, non_trainable, metrics_variables)

    def predict_step(self, state, data):
        """Returns the logits of one batch, and the model's state."""
        logits, non_trainable = super().predict_step(state, data)
        return on_every_device(logits), non_trainable

    def whole_batches(self, data_of_own_rows=None):
        """Context in which batches of any size go to the devices of a distribution."""
        return batches_on_all_devices(data_of_own_rows)

    def unshare_buffers(self):
        """Gives every variable a buffer of its own, since training donates them.

        Keras 3.15 ends a `fit` with a moving average by pointing the weights at
        the buffers of the average; a second `fit` would donate them twice.
        """
        seen = set()
        for variable in [*self.variables, *self.optimizer.variables]:
            if id(variable.value) in seen:
                variable.assign(jax.numpy.copy(variable.value))
            seen.add(id(variable.value))

    @contextlib.contextmanager
    def keeps_weights(self):
        """Gives the weights back if evaluation or prediction ends in an error.

        Only `fit` does that by itself.
        """
        try:
            yield
        except BaseException:
            self.jax_state_sync()
            raise

    def jax_state_sync(self):
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
            # Not as an attribute, in which Keras would see new state.
            vars(self)["_lent"] = tuple((each, each.value) for each in lent)
        return super()._get_jax_state(**parts)

    def _forward_losses(self, trainable, non_trainable, x, y, sample_weight, training):
        """Total loss, (task loss, record, logits), and the new model state."""
        (logits, record), non_trainable = self.stateless_call(
            trainable, non_trainable, x, training=training, return_routing=True
        )
        mapping = [
            *zip(self.trainable_variables, trainable, strict=True),
            *zip(self.non_trainable_variables, non_trainable, strict=True),
        ]
        with keras.StatelessScope(state_mapping=mapping):
            task_loss = self.compute_loss(
                x, y, logits, sample_weight, training=training
            )
        loss = task_loss + self.auxiliary_loss(record)
        return loss, (task_loss, record, logits), non_trainable

    def _logs(self, metrics_variables, loss, parts, x, y, sample_weight):
        """Updates all metrics statelessly; returns the logs and their state."""
        task_loss, record, logits = parts
        mapping = zip(self.metrics_variables, metrics_variables, strict=True)
        with keras.StatelessScope(state_mapping=list(mapping)) as scope:
            self._loss_tracker.update_state(loss, sample_weight=x.shape[0])
            self.track(task_loss, record, x.shape[0])
            logs = self.compute_metrics(x, y, logits, sample_weight=sample_weight)
        updated = []
        for variable, before in zip(
            self.metrics_variables, metrics_variables, strict=True
        ):
            after = scope.get_current_value(variable)
            updated.append(before if after is None else after)
        return logs, updated
