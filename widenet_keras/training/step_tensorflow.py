"""Train and test step on TensorFlow."""

from typing import Any

import keras
import tensorflow as tf

from widenet_keras.routing.record import over_replicas
from widenet_keras.training.objective import Objective, TrainingLoss
from widenet_keras.training.replicas import (
    ReplicaBatch,
    check_per_image,
    check_reduction,
)
from widenet_keras.training.trainable_variables import unscaled
from widenet_keras.utils.execution import execution
from widenet_keras.utils.types import Tensor


class TrainStep(Objective):
    """Mixin with `train_step` and `test_step` for `tf.function` and strategies."""

    def train_step(self, data: Any) -> dict[str, Tensor]:
        """Trains on one batch and returns the logs."""
        batch = _batch_of(data)
        with tf.GradientTape() as tape, self._execution():
            loss = self.training_loss(
                lambda: self._forward(batch, training=True),
                lambda logits: self._task_loss(batch, logits, training=True),
                batch.x,
                batch.sample_weight,
            )
            # The gradients of the replicas are summed.
            scaled = self.optimizer.scale_loss(loss.total * batch.share)
        variables = self.trainable_weights
        gradients = _clipped_together(self.optimizer, tape.gradient(scaled, variables))
        self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
        return self._logs(batch, loss)

    def test_step(self, data: Any) -> dict[str, Tensor]:
        """Evaluates one batch and returns the logs; `loss` is the task loss."""
        batch = _batch_of(data)
        with self._execution():
            logits, record, _ = self._forward(batch, training=False)
        loss = self._task_loss(batch, logits, training=False)
        return self._logs(batch, TrainingLoss(loss, loss, {}, logits, record))

    def predict_step(self, data: Any) -> Tensor:
        """Returns the logits of one batch."""
        with execution(static_shapes=self.jit_compile):
            return super().predict_step(data)

    def check_training(self, optimizer: Any, loss: Any) -> None:
        """Raises `ValueError` if optimizer or loss cannot train over these devices."""
        check_reduction(loss, _replicas())
        if _replicas() == 1 or optimizer is None:
            return
        plain = unscaled(optimizer)
        scaled = plain is not optimizer or self.dtype_policy.name == "mixed_float16"
        if (scaled or plain.loss_scale_factor) and any(_clips(plain)):
            raise ValueError(
                "compile: gradients that are scaled, for float16 or by "
                "loss_scale_factor, are not clipped together over several devices on "
                "TensorFlow; use mixed_bfloat16 and no factor, or no clipping."
            )
        if getattr(plain, "gradient_accumulation_steps", None):
            raise ValueError(
                "gradient_accumulation_steps="
                f"{plain.gradient_accumulation_steps} does not work over several "
                "devices on TensorFlow; use a smaller batch_size, more devices, or "
                "another backend."
            )

    def _forward(self, batch, training):
        """Returns the `Forward` of a part, with the record of the global batch."""
        made = self.made_of(batch.x, training)
        if _replicas() == 1:
            return made
        return made._replace(record=over_replicas(made.record, batch.share, _total))

    def _execution(self):
        """Context in which models compute a part of a batch."""
        return execution(static_shapes=self.jit_compile, replica=_replica())

    def _task_loss(self, batch, logits, training):
        if _replicas() > 1:
            check_per_image(self.loss, batch.y, logits)
        task_loss = self.compute_loss(
            batch.x, batch.y, logits, batch.sample_weight, training=training
        )
        # Keras has divided it by the number of replicas; their shares do that here.
        return task_loss * _replicas()

    def _logs(self, batch, loss):
        """Updates all metrics and returns the logs."""
        self._loss_tracker.update_state(loss.total, sample_weight=batch.count)
        self.track(loss.task, loss.record, batch.count, loss.terms)
        x, y, logits, weights = batch.real(
            batch.x, batch.y, loss.logits, batch.sample_weight
        )
        logs = self.compute_metrics(x, y, logits, sample_weight=weights)
        if _has_workers():
            # Keras 3.15 takes the mean of the workers' logs along an axis, and
            # scalars have none.
            logs = {name: tf.reshape(value, (1,)) for name, value in logs.items()}
        return logs

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        """Builds metrics from a batch; as in Keras, and with several workers too.

        Keras 3.15 adds the replicas' batches up, which fails across workers.
        """
        if iterator is not None and _has_workers(self.distribute_strategy):
            for _, _, batches in iterator:
                data_batch = tf.nest.map_structure(
                    lambda v: self.distribute_strategy.experimental_local_results(v)[0],
                    next(batches),
                )
                break
            iterator = None
        super()._maybe_symbolic_build(iterator, data_batch)


def _batch_of(data):
    """Returns the `ReplicaBatch` of what Keras hands to a step."""
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    if _replicas() == 1:
        return ReplicaBatch(x, y, sample_weight, tf.shape(x)[0], 1.0)
    count = tf.shape(x)[0]
    blank = tf.maximum(1 - count, 0)

    def padded(value):
        if value is None:
            return None
        # Not `tf.pad`: oneDNN joins it with the convolution that follows, and
        # loses what it adds to the batch.
        rows = tf.zeros((blank, *value.shape[1:]), value.dtype)
        return tf.concat([value, rows], 0)

    x, y, sample_weight = tf.nest.map_structure(padded, (x, y, sample_weight))
    images = tf.cast(count, tf.float32)
    # A strategy may end an epoch with a batch that has no image at all.
    share = tf.math.divide_no_nan(images, _total(images))
    return ReplicaBatch(x, y, sample_weight, count, share)


def _clipped_together(optimizer, gradients):
    """Returns gradients that are clipped, or looked at, as those of the global batch.

    Keras does both with what each replica has before it sums them, which bounds another
    norm. Here they are summed first; divided by the number of replicas, they
    pass Keras' own clipping unchanged and its sum restores them.
    """
    clips = any(_clips(optimizer))
    # What scales losses looks at the first replica alone for what is not finite.
    if _replicas() == 1 or not (clips or unscaled(optimizer) is not optimizer):
        return gradients
    gradients = _total(gradients)
    if clips:
        gradients = optimizer._clip_gradients(gradients)
    return [gradient / _replicas() for gradient in gradients]


def _clips(optimizer):
    return optimizer.clipnorm, optimizer.global_clipnorm, optimizer.clipvalue


def _total(values):
    """Sums values over the replicas."""
    context = tf.distribute.get_replica_context()
    return context.all_reduce(tf.distribute.ReduceOp.SUM, values)


def _replicas():
    """Number of replicas of the running strategy; 1 without one."""
    return float(tf.distribute.get_strategy().num_replicas_in_sync)


def _replica():
    """Which replica this is; None without a strategy."""
    if _replicas() == 1:
        return None
    return tf.distribute.get_replica_context().replica_id_in_sync_group


def _has_workers(strategy=None):
    """Whether the running strategy has several processes."""
    strategy = strategy or tf.distribute.get_strategy()
    workers = tf.distribute.MultiWorkerMirroredStrategy
    return isinstance(strategy, workers) and strategy.extended._in_multi_worker_mode()
