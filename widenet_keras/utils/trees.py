"""Trees of tensors: tuples and NamedTuples, walked in their order.

What is absent is an empty tuple, so nothing moves into its place. (Keras' own walk
takes dicts in another order on torch than elsewhere.)
"""


def leaves(tree):
    """Returns the leaves of a tree, a list in the order of the tree."""
    if isinstance(tree, tuple):
        return [leaf for part in tree for leaf in leaves(part)]
    return [tree]


def mapped(function, tree, *others):
    """Returns a tree of `function` of each leaf, and of those of trees like it.

    Args:
        function: Of as many leaves as there are trees.
        tree: A tree.
        *others: Trees of the same form.
    """
    if not isinstance(tree, tuple):
        return function(tree, *others)
    parts = [mapped(function, *part) for part in zip(tree, *others, strict=True)]
    return type(tree)(*parts) if hasattr(tree, "_fields") else tuple(parts)


def packed(tree, values):
    """Returns a tree like another one, with other leaves.

    Args:
        tree: A tree.
        values: The new leaves, in order.
    """
    values = iter(values)
    return mapped(lambda _: next(values), tree)


def rows_of(tree, count, apart):
    """Returns the trees of the rows of the leaves of a tree, a list.

    Args:
        tree: A tree whose leaves have a leading axis of `count` rows.
        count: How many.
        apart: Function of a leaf and `count` that returns its rows.
    """
    if not isinstance(tree, tuple):
        return apart(tree, count)
    if not tree:
        return [tree] * count
    rows = zip(*(rows_of(part, count, apart) for part in tree), strict=True)
    if hasattr(tree, "_fields"):
        return [type(tree)(*row) for row in rows]
    return list(rows)
