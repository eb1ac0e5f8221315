"""Errors from inside a framework, told as the one line that says what to change."""

import contextlib
import errno
import re

# A line of another library is quoted up to here.
_LONGEST = 300
_AROUND = re.compile(
    r"\{\{[^{}]*\}\}|\[Op:[^\]]*\](?: name:)?|\[\[[^\[\]]*\]\]|^\s*\(\d+\) +"
)
_HEADING = re.compile(
    r"Graph execution error:?$|Detected at node|Exception encountered when calling"
    r"|\d+ root error\(s\) found|Traceback \(most recent|File \"|Stack trace"
)
_FRAMEWORKS = {
    "tensorflow",
    "jax",
    "jaxlib",
    "torch",
    "keras",
    "onnx",
    "onnxruntime",
    "tf2onnx",
    "h5py",
    "ai_edge_litert",
    "numpy",
}


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
    """Returns what an error says as one line that is not long.

    What frameworks put around their messages (names of graph nodes, stacks of C++,
    headings without content) is left out.

    Args:
        error: The error, or its text.
    """
    lines = (_AROUND.sub("", line).strip() for line in str(error).splitlines())
    found = next((line for line in lines if line and not _HEADING.match(line)), "")
    found = found or type(error).__name__
    return found if len(found) <= _LONGEST else f"{found[:_LONGEST]} ..."


def is_of_a_framework(error):
    """Returns whether an error's class is of a library that this package calls."""
    return type(error).__module__.split(".")[0].lstrip("_") in _FRAMEWORKS


def is_of_the_system(error):
    """Returns whether a file could not be read, whatever its bytes are.

    Damaged ones raise `OSError`, too: without a number, or EINVAL where they lead a
    reader to before their beginning.

    Args:
        error: What was raised where a file was read.
    """
    number = error.errno if isinstance(error, OSError) else None
    return number not in (None, errno.EINVAL)
