"""Command lines from typed dataclasses, whose mistakes are told in one line."""

import contextlib
import importlib.util
import io
import sys

from widenet_keras.utils.printable import printable

FAILED, USAGE = 1, 2


def run_command(main, kind, command=None, arguments=None):
    """Parses the command line into a dataclass and runs `main` with it.

    Args:
        main: Function of the dataclass.
        kind: The dataclass; its docstrings are the help.
        command: What was called; None takes the name of the script.
        arguments: The words after it; None takes those of the process.

    Raises:
        SystemExit: After one line on stderr, with status `USAGE` for a command line
            that does not parse and `FAILED` for input that does not fit.
    """
    command = sys.argv[0] if command is None else command
    parsed = parse(kind, sys.argv[1:] if arguments is None else arguments, command)
    try:
        main(parsed)
    except (ValueError, FloatingPointError, ImportError, OSError) as error:
        # What this package raises on bad input; each says what to change.
        stop(command, error, FAILED)


def parse(kind, arguments, command):
    """Returns an instance of a dataclass made from command-line arguments.

    `--help` prints the fields with their descriptions and ends the process.

    Args:
        kind: The dataclass; tyro reads its annotations and docstrings.
        arguments: The words after the command.
        command: What was called, such as "widenet evaluate".
    """
    check_tyro(command)
    import tyro

    frame = io.StringIO()
    try:
        with contextlib.redirect_stderr(frame):
            return tyro.cli(kind, args=list(arguments), prog=command)
    except SystemExit as end:
        if not end.code:
            raise
        stop(command, f"{message_in(frame.getvalue())}; see --help.", USAGE)
    except ValueError as error:
        stop(command, error, USAGE)


def check_tyro(command):
    """Ends the process with one line unless tyro is installed."""
    if importlib.util.find_spec("tyro") is None:
        stop(
            command,
            "the command line needs tyro, which is not installed; run pip install "
            "'widenet_keras[recipes]'.",
            FAILED,
        )


def message_in(frame):
    """Returns the message of one of tyro's framed errors as one line.

    The frame has a title, a rule, the message, and below another rule what may
    help; it is drawn with lines, or with dashes where these cannot be shown.

    Args:
        frame: The text that tyro prints.
    """
    lines = [line.strip("│ ") for line in frame.splitlines()]
    _, *lines = [line for line in lines if line] or [""]
    message = []
    for line in lines:
        if line[0] in "─╰" or not line.strip("-"):
            if message:
                break
        else:
            message.append(line)
    return " ".join(message).rstrip(".:")


def stop(command, message, status):
    """Ends the process with one line on stderr.

    Args:
        command: What was called, such as "widenet evaluate".
        message: What was given, what is allowed, what to change.
        status: `USAGE` if the command line itself is wrong, else `FAILED`.
    """
    line = f"{command}: {' '.join(str(message).split())}"
    print(printable(line), file=sys.stderr)
    raise SystemExit(status)
