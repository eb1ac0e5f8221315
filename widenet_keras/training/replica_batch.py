"""What one of several replicas has of a batch."""

from typing import NamedTuple


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
