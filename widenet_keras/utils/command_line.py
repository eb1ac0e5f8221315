"""Command lines from typed dataclasses, whose mistakes are told in one line."""

import contextlib
import io
import os
import sys

from widenet_keras.utils.install import install_command, is_installed
from widenet_keras.utils.plain_errors import first_line, is_of_a_framework
from widenet_keras.utils.printable import printable

# What shells say of a process that a signal ended is 128 and the signal's number.
FAILED, USAGE, PIPE_CLOSED, INTERRUPTED = 1, 2, 141, 130


def run_command(main, kind, command=None, arguments=None):
    """Parses the command line into a dataclass and runs `main` with it.

    Args:
        main: Function of the dataclass.
        kind: The dataclass; its docstrings are the help.
        command: What was called; None takes the name of the script.
        arguments: The words after it; None takes those of the process.

    Raises:
        SystemExit: After one line on stderr, with status `USAGE` for a command line
            that does not parse, `FAILED` for input that does not fit, and
            `INTERRUPTED` after Ctrl-C.
    """
    command = sys.argv[0] if command is None else command
    with told_in_one_line(command):
        parsed = parse(kind, sys.argv[1:] if arguments is None else arguments, command)
        main(parsed)


@contextlib.contextmanager
def told_in_one_line(command):
    """Context in which what stops a command is told in one line on stderr.

    An error of another class than those here is a fault of this package, and keeps
    its traceback.

    Args:
        command: What was called, such as "widenet evaluate".

    Raises:
        SystemExit: With status `FAILED`; after Ctrl-C `INTERRUPTED`; and without a
            word `PIPE_CLOSED` where nobody reads on what is printed, as in
            `widenet predict ... | head -1`.
    """
    try:
        yield
        # What still waits to be written may find the pipe closed.
        sys.stdout.flush()
    except KeyboardInterrupt:
        stop(command, "stopped by Ctrl-C.", INTERRUPTED)
    except (ValueError, FloatingPointError, ImportError, OSError) as error:
        if isinstance(error, BrokenPipeError) and _nobody_reads():
            raise SystemExit(PIPE_CLOSED) from None
        # What this package raises on bad input; each says what to change.
        stop(command, error, FAILED)
    except MemoryError:
        stop(command, "there is not enough memory; give smaller batches.", FAILED)
    except Exception as error:
        if not (isinstance(error, RuntimeError) or is_of_a_framework(error)):
            raise
        stop(command, f"{type(error).__name__}: {first_line(error)}", FAILED)


def _nobody_reads():
    """Whether stdout is a closed pipe; then nothing more is written to it."""
    try:
        # What could not be written is forgotten, so that it takes something new.
        print(flush=True)
    except BrokenPipeError:
        # Python flushes once more when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    return False


def parse(kind, arguments, command):
    """Returns an instance of a dataclass made from command-line arguments.

    `--help` prints the fields with their descriptions and ends the process. Fields of a
    dataclass in it are flags like its own: `--mixup`, not `--augmentation.mixup`.

    Args:
        kind: The dataclass; tyro reads its annotations and docstrings.
        arguments: The words after the command.
        command: What was called, such as "widenet evaluate".
    """
    check_tyro(command)
    import tyro

    if any(map(_is_empty, arguments)):
        line = "one of the words is empty; give a value, or leave its flag out."
        stop(command, line, USAGE)
    frame, flags = io.StringIO(), (tyro.conf.OmitArgPrefixes,)
    try:
        with contextlib.redirect_stderr(frame):
            return tyro.cli(kind, args=list(arguments), prog=command, config=flags)
    except SystemExit as end:
        if not end.code:
            raise
        stop(command, f"{message_in(frame.getvalue())}; see --help.", USAGE)
    except ValueError as error:
        stop(command, error, USAGE)


def _is_empty(word):
    """Whether a word has no value, as from a variable of the shell that is not set.

    As a path it would be the current folder.
    """
    flag, equals, value = word.partition("=")
    return not word or (flag.startswith("--") and bool(equals) and not value)


def check_tyro(command):
    """Ends the process with one line unless tyro is installed."""
    if not is_installed("tyro"):
        stop(
            command,
            "the command line needs tyro, which is not installed; run "
            f"{install_command('recipes')}.",
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
