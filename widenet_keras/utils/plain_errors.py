"""Errors from inside a framework, told as the one line that says what to change."""

import contextlib
import re


@contextlib.contextmanager
def plain_errors(*line_in):
    """Context in which an error with a known line in it becomes that line.

    Args:
        *line_in: Functions of an error that return the line inside it, or None.

    Raises:
        ValueError: With the line. Errors without one, and a `ValueError`, which is
            plain already, pass as they are.
    """
    try:
        yield
    except ValueError:
        raise
    except Exception as error:
        line = next(filter(None, (find(error) for find in line_in)), None)
        if line is None:
            raise
        raise ValueError(line) from None


@contextlib.contextmanager
def told_by(owner: str):
    """Context in which an error that a framework raised is one line of `owner`.

    Args:
        owner: Name that starts the line, unless another one does already.

    Raises:
        ValueError: For a `ValueError` or `TypeError`.
    """
    try:
        yield
    except (ValueError, TypeError) as error:
        line = " ".join(str(error).split())
        start = "" if re.match(r"\w+: ", line) else f"{owner}: "
        raise ValueError(f"{start}{line}") from None


def first_line(error):
    """Returns the first line of an error's message; its class if it has none."""
    return next(iter(str(error).strip().splitlines()), "") or type(error).__name__
