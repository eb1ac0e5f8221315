"""Whether a model and its loss are still numbers."""

import math

import keras


def what_is_not_finite(model, logs):
    """Returns what is no finite number at the end of an epoch, or None.

    A loss is computed before its update, so the last update of an epoch shows in
    the weights alone.

    Args:
        model: The model, its weights in place.
        logs: Dict of an epoch's metrics.

    Returns:
        A text such as "the loss is nan", or None.
    """
    loss = float(logs.get("loss", 0.0))
    if not math.isfinite(loss):
        return f"the loss is {loss}"
    for weight in model.trainable_variables:
        if not keras.ops.all(keras.ops.isfinite(weight)):
            return f"the weight {weight.path} has values that are no numbers"
    return None
