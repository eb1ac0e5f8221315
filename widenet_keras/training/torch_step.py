"""Train and test step on PyTorch."""

import keras
import torch

from widenet_keras.training.objective import Objective


class TrainStep(Objective):
    """Mixin with eager `train_step` and `test_step`."""

    def train_step(self, data):
        """Takes one gradient step and returns the logs."""
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        logits, record = self(x, training=True, return_routing=True)
        # Gradients of the step before would be added to.
        self.zero_grad()
        task_loss = self.compute_loss(x, y, logits, sample_weight, training=True)
        loss = task_loss + self.auxiliary_loss(record)
        self.optimizer.scale_loss(loss).backward()
        variables = self.trainable_weights
        gradients = [variable.value.grad for variable in variables]
        with torch.no_grad():
            self.optimizer.apply(gradients, variables)
            self._loss_tracker.update_state(loss, sample_weight=x.shape[0])
            self.track(task_loss, record, x.shape[0])
        return self.compute_metrics(x, y, logits, sample_weight=sample_weight)

    def test_step(self, data):
        """Evaluates one batch and returns the logs; `loss` is the task loss."""
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        logits, record = self(x, training=False, return_routing=True)
        task_loss = self.compute_loss(x, y, logits, sample_weight, training=False)
        self._loss_tracker.update_state(task_loss, sample_weight=x.shape[0])
        self.track(task_loss, record, x.shape[0])
        return self.compute_metrics(x, y, logits, sample_weight=sample_weight)
