"""What one of several replicas has of a batch, and what they can be trained with."""

from typing import NamedTuple

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
    reduction = getattr(loss, "reduction", _MEANS[0])
    if replicas > 1 and reduction not in _MEANS:
        raise ValueError(
            f"compile: the loss has reduction={reduction!r}, which several devices "
            "cannot share; use reduction='sum_over_batch_size', or one device."
        )
