"""Sharing plans: which unique block does step t read?"""

from widenet_keras.utils.checks import check_choice, check_integer

SHARING_PLANS = ("none", "all", "sequence", "cycle")


def check_sharing(owner, sharing, steps, unique_blocks):
    """Raises `ValueError` unless the plan fits the steps.

    Args:
        owner: Name that starts the message.
        sharing: One of `SHARING_PLANS`.
        steps: L.
        unique_blocks: U; None for the only value of "none" (L) and "all" (1).
    """
    check_integer(owner, "steps", steps, 1)
    check_choice(owner, "sharing", sharing, SHARING_PLANS)
    fixed = {"none": steps, "all": 1}.get(sharing)
    if unique_blocks is None:
        if fixed is None:
            raise ValueError(
                f"{owner}: sharing={sharing!r} needs unique_blocks; give the number "
                f"of blocks that the {steps} steps share."
            )
        return
    check_integer(owner, "unique_blocks", unique_blocks, 1)
    if fixed is not None and unique_blocks != fixed:
        raise ValueError(
            f"{owner}: unique_blocks={unique_blocks} contradicts sharing={sharing!r}, "
            f"which has {fixed}; leave it out, or use 'sequence' or 'cycle'."
        )
    if sharing == "sequence" and steps % unique_blocks:
        raise ValueError(
            f"{owner}: unique_blocks={unique_blocks} does not divide steps={steps}, as "
            "sharing='sequence' needs; change one of them."
        )
    if unique_blocks > steps:
        raise ValueError(
            f"{owner}: unique_blocks={unique_blocks} is more than steps={steps}; use "
            f"at most {steps}."
        )


def block_of_step(sharing, steps, unique_blocks=None):
    """Returns the index of the unique block of each step, a tuple of length L.

    "sequence" lets neighbours share (0 0 1 1), "cycle" repeats the stack
    (0 1 0 1).

    Args:
        sharing: One of `SHARING_PLANS`.
        steps: L.
        unique_blocks: U, for "sequence" and "cycle".
    """
    if sharing == "none":
        return tuple(range(steps))
    if sharing == "all":
        return (0,) * steps
    if sharing == "cycle":
        return tuple(step % unique_blocks for step in range(steps))
    return tuple(step // (steps // unique_blocks) for step in range(steps))
