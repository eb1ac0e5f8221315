"""The axes of the weights of a block: which of them count units, and of which kind.

A unit is whatever has one index along an axis that several weights of a part share.
"""

# Kinds of units.
HEADS, KEY_DIMS, VALUE_DIMS = "heads", "key_dims", "value_dims"
HIDDEN, EXPERTS = "hidden", "experts"
# Of the tokens, which every block has.
WIDTH = "width"
_QUERY = (WIDTH, HEADS, KEY_DIMS)
_INNER = (WIDTH, HIDDEN)
# The axes of the kernel of each product; its bias has those but that of the inputs.
# A router is left out: what it says of an expert is no part of what the expert does.
AXES = {
    "query": (_QUERY, _QUERY[1:]),
    "key": (_QUERY, _QUERY[1:]),
    "value": ((WIDTH, HEADS, VALUE_DIMS), (HEADS, VALUE_DIMS)),
    "output": ((HEADS, VALUE_DIMS, WIDTH), (WIDTH,)),
    "hidden": (_INNER, (HIDDEN,)),
    "gate": (_INNER, (HIDDEN,)),
    "outer": ((HIDDEN, WIDTH), (WIDTH,)),
    "experts_hidden": ((EXPERTS, *_INNER), (EXPERTS, HIDDEN)),
    "experts_outer": ((EXPERTS, HIDDEN, WIDTH), (EXPERTS, WIDTH)),
}


def hidden_axis(name: str, part: int) -> int | None:
    """Returns which axis of a weight is that of hidden units, from the last: -1 or -2.

    Args:
        name: Name of a product of `AXES`, or of something else, which has none; of
            parallel paths with the path in front.
        part: 0 for its kernel, 1 for its bias.
    """
    names = AXES.get(name.rpartition("/")[2], ((), ()))[part]
    return names.index(HIDDEN) - len(names) if HIDDEN in names else None
