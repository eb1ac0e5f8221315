"""The moving average of the weights, which an optimizer keeps."""

import contextlib

import keras

from widenet_keras.training.trainable_variables import averages_begin, unscaled


class AveragedEvaluation(keras.callbacks.Callback):
    """Evaluates with the moving average of the weights, which an optimizer keeps.

    The weights are put aside as they are: Keras' `SwapEMAWeights` adds and
    subtracts them on TensorFlow, which leaves each a rounding error off.
    """

    def on_test_begin(self, logs=None):
        """Puts the average into the model until the evaluation ends."""
        self.model.until_evaluated(averaged_weights(self.model))


@contextlib.contextmanager
def averaged_weights(model):
    """Context in which a model has the moving average of its weights, if any.

    Args:
        model: A compiled model; without `use_ema`, and before the first update,
            nothing changes.
    """
    optimizer = model.optimizer
    plain = unscaled(optimizer)
    if not getattr(plain, "use_ema", False) or averages_begin(plain):
        yield
        return
    weights = model.trainable_variables
    # Copied where they are, since a process may hold a part of a weight only.
    own = [keras.ops.copy(weight) for weight in weights]
    optimizer.finalize_variable_values(weights)
    # On JAX the two are one buffer now, which an evaluation would use up.
    model.unshare_buffers()
    try:
        yield
    finally:
        for weight, value in zip(weights, own, strict=True):
            weight.assign(value)
