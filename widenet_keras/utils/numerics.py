"""Numerics that every layer should do the same way."""

from keras import ops


def softmax(logits):
    """Softmax of the last axis in float32, also where that axis has one entry.

    Keras warns of a softmax over one entry as a likely mistake; here it is the
    router of a single expert, or the attention of a single token.
    """
    logits = ops.cast(logits, "float32")
    if logits.shape[-1] == 1:
        # Written so that the gradient is zero rather than missing.
        return logits * 0.0 + 1.0
    return ops.softmax(logits, axis=-1)
