"""Train and test step on PyTorch."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import torch

from widenet_keras.routing.record import over_replicas
from widenet_keras.training import processes_torch
from widenet_keras.training.objective import Objective, TrainingLoss
from widenet_keras.training.replicas import ReplicaBatch, check_reduction
from widenet_keras.utils.execution import execution
from widenet_keras.utils.types import Tensor


class TrainStep(Objective):
    """Mixin with eager `train_step` and `test_step`, in one process or several."""

    _own_rows = False

    def call(
        self,
        images: Tensor,
        training: bool | None = None,
        return_routing: bool = False,
        look_at: Sequence[int] = (),
    ) -> Any:
        """As that of the model, with steps of the depth compiled if wanted."""
        with execution(compiled=self.jit_compile):
            return super().call(images, training, return_routing, look_at)

    def _resolve_auto_jit_compile(self):
        # On a CPU a compiled step saves nothing.
        return torch.cuda.is_available()

    def _should_torch_compile(self):
        # Steps of the depth are compiled; Keras would compile all around them, which
        # breaks into pieces.
        return False

    def train_step(self, data: Any) -> dict[str, Tensor]:
        """Trains on one batch and returns the logs."""
        batch = self._batch_of(data)
        with execution(replica=processes_torch.rank()):
            loss = self.training_loss(
                lambda: self._forward(batch, training=True),
                lambda logits: self._task_loss(batch, logits, training=True),
                batch.x,
                batch.sample_weight,
            )
        # What `fit` has followed; Keras would walk over all layers for it.
        variables = self.optimizer._trainable_variables
        # Gradients of the batch before would be added to. Here and below not `value`,
        # which looks around before it gives a parameter.
        for variable in variables:
            variable._value.grad = None
        self.optimizer.scale_loss(loss.total * batch.share).backward()
        gradients = [variable._value.grad for variable in variables]
        if processes_torch.processes() > 1:
            gradients = processes_torch.totals(gradients)
        with torch.no_grad():
            self.optimizer.apply(gradients, variables)
        return self._logs(batch, loss)

    def _get_regularization_losses(self):
        # For which Keras, too, walks over all layers at every step.
        followed = getattr(self.optimizer, "_trainable_variables", None)
        if followed and self._followed == self._traced:
            regularised = any(variable.regularizer for variable in followed)
            return super()._get_regularization_losses() if regularised else []
        return super()._get_regularization_losses()

    def test_step(self, data: Any) -> dict[str, Tensor]:
        """Evaluates one batch and returns the logs; `loss` is the task loss."""
        batch = self._batch_of(data)
        with execution(replica=processes_torch.rank()):
            logits, record, _ = self._forward(batch, training=False)
        loss = self._task_loss(batch, logits, training=False)
        return self._logs(batch, TrainingLoss(loss, loss, {}, logits, record))

    def predict_step(self, data: Any) -> Tensor:
        """Returns the logits of one batch, of which every process computes a part."""
        if processes_torch.processes() == 1:
            return super().predict_step(data)
        x, _, _ = keras.utils.unpack_x_y_sample_weight(data)
        rows = processes_torch.rows_of_process(len(x))
        mine = _padded(x[rows])
        logits = self(mine, training=False)[: rows.stop - rows.start]
        return processes_torch.joined_rows(logits, len(x))

    def check_training(self, optimizer: Any, loss: Any) -> None:
        """Raises `ValueError` if a loss cannot be shared by these processes."""
        check_reduction(loss, processes_torch.processes())

    def get_metrics_result(self) -> dict[str, Any]:
        """Returns the metrics over the images of all processes."""
        if processes_torch.processes() == 1:
            return super().get_metrics_result()
        # What metrics keep are sums, whose results are those of the sums of sums.
        variables = [v for metric in self.metrics for v in metric.variables]
        own = [variable.value.detach().clone() for variable in variables]
        for variable, value in zip(variables, processes_torch.totals(own), strict=True):
            variable.assign(value)
        try:
            return super().get_metrics_result()
        finally:
            for variable, value in zip(variables, own, strict=True):
                variable.assign(value)

    @contextlib.contextmanager
    def whole_batches(self, data_of_own_rows: Any = None) -> Iterator[None]:
        """Context in which data are a process's own rows, or whole batches."""
        before, self._own_rows = self._own_rows, data_of_own_rows is not None
        try:
            yield
        finally:
            self._own_rows = before

    def _batch_of(self, data):
        """Returns the `ReplicaBatch` of what Keras hands to a step."""
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        if processes_torch.processes() == 1:
            return ReplicaBatch(x, y, sample_weight, len(x), 1.0)
        count = len(x)
        if self._own_rows:
            images = count * processes_torch.processes()
        else:
            images, rows = count, processes_torch.rows_of_process(count)
            count = rows.stop - rows.start
            x, y, sample_weight = (
                None if value is None else value[rows]
                for value in (x, y, sample_weight)
            )
        padded = (
            None if value is None else _padded(value) for value in (x, y, sample_weight)
        )
        return ReplicaBatch(*padded, count, count / images)

    def _forward(self, batch, training):
        """Returns the `Forward` of a part, with the record of the global batch."""
        made = self.made_of(batch.x, training)
        if processes_torch.processes() == 1:
            return made
        total = processes_torch.total
        return made._replace(record=over_replicas(made.record, batch.share, total))

    def _task_loss(self, batch, logits, training):
        return self.compute_loss(
            batch.x, batch.y, logits, batch.sample_weight, training=training
        )

    def _logs(self, batch, loss):
        """Updates all metrics and returns the logs."""
        with torch.no_grad():
            self._loss_tracker.update_state(loss.total, sample_weight=batch.count)
            self.track(loss.task, loss.record, batch.count, loss.terms)
        x, y, logits, weights = batch.real(
            batch.x, batch.y, loss.logits, batch.sample_weight
        )
        return self.compute_metrics(x, y, logits, sample_weight=weights)


def _padded(rows):
    """Returns the rows, or one row of zeros if there are none."""
    return rows if len(rows) else rows.new_zeros((1, *rows.shape[1:]))
