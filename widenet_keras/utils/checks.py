"""One-line errors: what was given, what is allowed, what to change."""

import difflib
import numbers
import os


def suggest(name, known):
    """Returns " Did you mean 'x'?" for the nearest known name, else "".

    Args:
        name: What was given.
        known: Iterable of the names that exist.
    """
    folded = {each.casefold(): each for each in known}
    nearest = difflib.get_close_matches(str(name).casefold(), folded, n=1, cutoff=0.4)
    return f" Did you mean {folded[nearest[0]]!r}?" if nearest else ""


def check_choice(owner, field, value, allowed):
    """Raises `ValueError` unless `value` is one of `allowed`."""
    if value not in allowed:
        names = ", ".join(repr(name) for name in allowed)
        raise ValueError(
            f"{owner}: {field}={value!r} is not known; use one of {names}."
            f"{suggest(value, [a for a in allowed if isinstance(a, str)])}"
        )


def check_integer(owner, field, value, minimum):
    """Raises `ValueError` unless `value` is a whole number >= `minimum`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        raise ValueError(
            f"{owner}: {field}={value!r} must be a whole number >= {minimum}"
            f"{_of_numpy(value, 'int')}."
        )


def check_odd(owner, name, value, least, why):
    """Raises `ValueError` unless a number is odd, and not too small.

    Args:
        owner: Name that starts the message.
        name: What the number is called.
        value: The number.
        least: The smallest that is allowed.
        why: What it must be odd for, a part of the message.
    """
    check_integer(owner, name, value, least)
    if value % 2 == 0:
        raise ValueError(
            f"{owner}: {name}={value} must be odd, {why}; use {value + 1}."
        )


def check_number(owner, field, value, minimum, below=None):
    """Raises `ValueError` unless `minimum <= value` (and `value < below`)."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    # Written so that NaN fails as well.
    fits = number and value >= minimum and value < float("inf")
    if not fits or (below is not None and value >= below):
        limit = f">= {minimum}" if below is None else f"in [{minimum}, {below})"
        raise ValueError(
            f"{owner}: {field}={value!r} must be a number {limit}"
            f"{_of_numpy(value, 'float')}."
        )


def check_positive(owner, field, value, also=""):
    """Raises `ValueError` unless `value` is a number over 0.

    Args:
        owner: Name that starts the message.
        field: What the number is called.
        value: The number.
        also: What else is allowed, the end of the message.
    """
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (number and 0 < value < float("inf")):
        raise ValueError(
            f"{owner}: {field}={value!r} must be a number over 0{also}"
            f"{_of_numpy(value, 'float')}."
        )


def _of_numpy(value, kind):
    """Returns what to do with a number of NumPy, which files would not keep."""
    # NumPy is not imported for the words of a command.
    return f"; use {kind}(...)" if type(value).__module__ == "numpy" else ""


def check_fraction(owner, field, value, zero=True, one=True):
    """Raises `ValueError` unless `value` is a number from 0 to 1, NumPy's too.

    Args:
        owner: Who asks, for the message.
        field: Name of the value.
        value: Anything.
        zero: Whether it may be 0.
        one: Whether it may be 1.
    """
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    # Written so that NaN fails as well.
    inside = number and 0 <= value <= 1
    if not (inside and (zero or value > 0) and (one or value < 1)):
        limit = f"in {'[' if zero else '('}0, 1{']' if one else ')'}"
        limit = "from 0 to 1" if zero and one else limit
        raise ValueError(f"{owner}: {field}={value!r} must be a number {limit}.")


def check_flag(owner, field, value):
    """Raises `ValueError` unless `value` is True or False."""
    if not isinstance(value, bool):
        raise ValueError(f"{owner}: {field}={value!r} must be True or False.")


def check_path(owner, path):
    """Raises `ValueError` unless `path` is the path of a file or folder."""
    if not isinstance(path, str | os.PathLike) or not str(path):
        raise ValueError(
            f"{owner}: the path is {path!r}; give a string or a pathlib.Path."
        )


def check_top_k(owner, top_k, num_experts):
    """Raises `ValueError` unless `1 <= top_k <= num_experts`."""
    check_integer(owner, "num_experts", num_experts, 1)
    check_integer(owner, "top_k", top_k, 1)
    if top_k > num_experts:
        raise ValueError(
            f"{owner}: top_k={top_k} is more than num_experts={num_experts}; "
            f"use a top_k from 1 to {num_experts}, or more experts."
        )


def check_groups(owner, top_k, num_experts):
    """Raises `ValueError` unless E experts split evenly into K groups."""
    check_integer(owner, "top_k", top_k, 1)
    if num_experts % top_k:
        raise ValueError(
            f"{owner}: num_experts={num_experts} does not split into top_k={top_k} "
            "equal groups; use a top_k that divides num_experts."
        )
