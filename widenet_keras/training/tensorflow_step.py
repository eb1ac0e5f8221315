"""Train and test step on TensorFlow."""

import keras
import tensorflow as tf

from widenet_keras.training.objective import Objective
from widenet_keras.utils.execution import execution


class TrainStep(Objective):
    """Mixin with `train_step` and `test_step` for `tf.function` and strategies."""

    def train_step(self, data):
        """Takes one gradient step and returns the logs."""
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        with tf.GradientTape() as tape:
            with execution(static_shapes=self.jit_compile):
                logits, record = self(x, training=True, return_routing=True)
            task_loss = self.compute_loss(x, y, logits, sample_weight, training=True)
            # Under a strategy Keras divides the compiled loss by the number of
            # replicas, whose gradients are then summed: so must this one be.
            loss = task_loss + self.auxiliary_loss(record) / _replicas()
            scaled = self.optimizer.scale_loss(loss)
        variables = self.trainable_weights
        gradients = _clipped_together(self.optimizer, tape.gradient(scaled, variables))
        self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
        self._track_losses(loss, task_loss, record, x)
        return self.compute_metrics(x, y, logits, sample_weight=sample_weight)

    def test_step(self, data):
        """Evaluates one batch and returns the logs; `loss` is the task loss."""
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        with execution(static_shapes=self.jit_compile):
            logits, record = self(x, training=False, return_routing=True)
        task_loss = self.compute_loss(x, y, logits, sample_weight, training=False)
        self._track_losses(task_loss, task_loss, record, x)
        return self.compute_metrics(x, y, logits, sample_weight=sample_weight)

    def predict_step(self, data):
        """Returns the logits of one batch."""
        with execution(static_shapes=self.jit_compile):
            return super().predict_step(data)

    def _track_losses(self, loss, task_loss, record, x):
        batch_size = tf.shape(x)[0]
        self._loss_tracker.update_state(loss * _replicas(), sample_weight=batch_size)
        self.track(task_loss * _replicas(), record, batch_size)


def _clipped_together(optimizer, gradients):
    """Returns gradients that are clipped as those of the global batch.

    Keras clips what each replica has before it sums them, which bounds another
    norm. Here they are summed first; divided by the number of replicas, they
    pass Keras' own clipping unchanged and its sum restores them.
    """
    clips = (optimizer.clipnorm, optimizer.global_clipnorm, optimizer.clipvalue)
    if _replicas() == 1 or not any(clips):
        return gradients
    context = tf.distribute.get_replica_context()
    gradients = context.all_reduce(tf.distribute.ReduceOp.SUM, gradients)
    gradients = optimizer._clip_gradients(gradients)
    return [gradient / _replicas() for gradient in gradients]


def _replicas():
    """Number of replicas of the running strategy; 1 without one."""
    return float(tf.distribute.get_strategy().num_replicas_in_sync)
