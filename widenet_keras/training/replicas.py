"""What one of several replicas has of a batch, and what they can be trained with."""

from typing import NamedTuple

import keras

_MEANS = ("mean", "sum_over_batch_size")


class ReplicaBatch(NamedTuple):
    """The images of one replica, and how they stand in the global batch.

    Attributes:
        x: Images, at least one: a replica without any computes a blank one.
        y: Labels.
        sample_weight: Weights, or None.
        count: How many of the images are real.
        share: Their part of the global batch.
    """

    x: object
    y: object
    sample_weight: object
    count: object
    share: object

    def real(self, *values):
        """Returns (B, ...) tensors without the blank image; None stays None."""
        return [None if value is None else value[: self.count] for value in values]


def check_reduction(loss, replicas):
    """Raises `ValueError` unless the losses of replicas add up to that of a batch.

    Each replica's loss is weighted by its part of the images, which is right for
    means over images.

    Args:
        loss: A loss, or what Keras takes for one.
        replicas: Number of replicas.
    """
    for each in keras.tree.flatten(loss):
        reduction = getattr(each, "reduction", _MEANS[0])
        if replicas > 1 and reduction not in _MEANS:
            raise ValueError(
                f"compile: the loss has reduction={reduction!r}, which several devices "
                "cannot share; use reduction='sum_over_batch_size', or one device."
            )


def check_per_image(loss, labels, logits):
    """Raises `ValueError` if a loss gives one number for all images of a replica.

    Keras does not divide such a number by the replicas, as it does a mean of its own.

    Args:
        loss: A loss, or what Keras takes for one.
        labels: Labels of a replica.
        logits: (B, classes).
    """
    for each in keras.tree.flatten(loss):
        if each is None or isinstance(each, str):
            # Those of Keras by their names give one for each image.
            continue
        dtype = getattr(each, "dtype", None) or keras.backend.floatx()
        given = (keras.ops.cast(value, dtype) for value in (labels, logits))
        if not len(getattr(each, "call", each)(*given).shape):
            raise ValueError(
                "compile: the loss gives one number for a batch, which several devices "
                "cannot share; return one for each image, or use one device."
            )
