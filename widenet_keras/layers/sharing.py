"""Sharing plans: which unique block does step t read, and whose parts?"""

from widenet_keras.utils.checks import check_choice, check_integer

# What is shared is whole blocks,
BLOCK_PLANS = ("none", "all", "sequence", "cycle")
# or one of their parts, while every step has a block with an other part of its own.
PART_PLANS = ("attention", "feed_forward")
SHARING_PLANS = (*BLOCK_PLANS, *PART_PLANS)


def check_sharing(owner, sharing, steps, unique_blocks, plans=SHARING_PLANS):
    """Raises `ValueError` unless the plan fits the steps.

    Args:
        owner: Name that starts the message.
        sharing: One of `plans`.
        steps: L.
        unique_blocks: U; None for the only value of "none" (L) and "all" (1), and for
            one group of a part.
        plans: Which of `SHARING_PLANS` there are.
    """
    check_integer(owner, "steps", steps, 1)
    check_choice(owner, "sharing", sharing, plans)
    fixed = {"none": steps, "all": 1}.get(sharing)
    if unique_blocks is None:
        if fixed is None and sharing not in PART_PLANS:
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
    if sharing in ("sequence", *PART_PLANS) and steps % unique_blocks:
        raise ValueError(
            f"{owner}: unique_blocks={unique_blocks} does not divide steps={steps}, as "
            f"sharing={sharing!r} needs; change one of them."
        )
    if unique_blocks > steps:
        raise ValueError(
            f"{owner}: unique_blocks={unique_blocks} is more than steps={steps}; use "
            f"at most {steps}."
        )


def block_of_step(sharing, steps, unique_blocks=None):
    """Returns the index of the unique block of each step, a tuple of length L.

    "sequence" lets neighbours share (0 0 1 1), "cycle" repeats the stack
    (0 1 0 1). Where a part is shared each step has a block of its own.

    Args:
        sharing: One of `SHARING_PLANS`.
        steps: L.
        unique_blocks: U, for "sequence" and "cycle".
    """
    if sharing in ("none", *PART_PLANS):
        return tuple(range(steps))
    if sharing == "all":
        return (0,) * steps
    if sharing == "cycle":
        return tuple(step % unique_blocks for step in range(steps))
    return tuple(step // (steps // unique_blocks) for step in range(steps))


def holders(part, sharing, steps, unique_blocks=None):
    """Returns which unique block holds the part of each one, a tuple of length U.

    Neighbours whose blocks share a part have that of the first of them (0 0 2 2).

    Args:
        part: One of `PART_PLANS`.
        sharing: As for `block_of_step`.
        steps: L.
        unique_blocks: U, or in how many groups a part is shared; None for one.
    """
    blocks = dict.fromkeys(block_of_step(sharing, steps, unique_blocks))
    if sharing != part:
        return tuple(sorted(blocks))
    size = steps // (unique_blocks or 1)
    return tuple(block // size * size for block in blocks)


def ranks(items):
    """Returns each item's place among the different ones, in order of appearance."""
    places = {}
    return tuple(places.setdefault(item, len(places)) for item in items)
