"""What replicas that sum their gradients can be trained with."""

_MEANS = ("mean", "sum_over_batch_size")


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
