"""What a weight is: said where it is made, and read by whoever treats weights apart."""

import contextlib
import threading
from typing import NamedTuple

from widenet_keras.utils.checks import check_choice

# What optimizers give learning rates to.
GROUPS = ("embedding", "core", "norms", "pieces", "head")
# What descriptions count, in the order that they show.
PARTS = (
    "embedding",
    "attention",
    "router",
    "experts",
    "dense MLPs",
    "ring",
    "norms of the steps",
    "pieces",
    "head",
)
STACKS = (None, "steps", "experts", "paths")


class Role(NamedTuple):
    """What a weight is.

    Attributes:
        group: One of `GROUPS`: "core" is what steps share, "norms" and "pieces" what
            they keep for themselves.
        part: One of `PARTS`.
        decayed: Whether weight decay applies.
        stacked: What its first axis counts if it is a stack of independent weights:
            "steps", "experts", "paths" or None.
        exact: Whether rounding it is out of the question, as for a router, which
            would send tokens elsewhere.
    """

    group: str
    part: str
    decayed: bool = True
    stacked: str | None = None
    exact: bool = False


class _Making(threading.local):
    role = None


_making = _Making()


def checked(role):
    """Returns a role; raises `ValueError` if a field of it is unknown."""
    check_choice("Role", "group", role.group, GROUPS)
    check_choice("Role", "part", role.part, PARTS)
    check_choice("Role", "stacked", role.stacked, STACKS)
    return role


def role_of(variable):
    """Returns the role of a weight of this package.

    Args:
        variable: `keras.Variable`; under JAX's distributions also one that is just
            being made.

    Raises:
        ValueError: If nobody said what the weight is.
    """
    role = said_role(variable)
    if role is None:
        raise ValueError(
            f"The weight {variable.path} has no role; whoever makes it has to say what "
            "it is, with widenet_keras.utils.roles."
        )
    return role


def said_role(variable):
    """Returns the role of a weight, or None for one of somebody else's layer."""
    return getattr(variable, "widenet_role", None) or _making.role


def say_role(variable, role):
    """Says what a weight is that Keras has made."""
    variable.widenet_role = checked(role)


@contextlib.contextmanager
def making(role):
    """Context in which the weights that are made have a role.

    Distributions ask for the layout of a weight before its maker has got it.
    """
    before, _making.role = _making.role, checked(role)
    try:
        yield
    finally:
        _making.role = before


def weight_with_role(layer, role, **arguments):
    """Returns a weight that a layer adds, with its role.

    Args:
        layer: A `keras.layers.Layer`.
        role: `Role`.
        **arguments: As for `keras.layers.Layer.add_weight`.
    """
    with making(role):
        variable = layer.add_weight(**arguments)
    say_role(variable, role)
    return variable


def say_roles(layer, role):
    """Says what the weights of a Keras layer are; of vectors, that none is decayed.

    Args:
        layer: A built `keras.layers.Layer`.
        role: `Role`, or None to say nothing.
    """
    for variable in layer.weights if role else ():
        decayed = role.decayed and len(variable.shape) > 1
        say_role(variable, role._replace(decayed=decayed))


def built_with_role(layer, shape, role):
    """Returns a Keras layer, built, whose weights have a role; see `say_roles`."""
    if not layer.built:
        with making(role):
            layer.build(shape)
    say_roles(layer, role)
    return layer
