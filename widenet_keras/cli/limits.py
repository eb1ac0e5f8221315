"""Limits that several commands take."""

from widenet_keras.utils.command_line import USAGE, stop
from widenet_keras.utils.memory import memory_of


def memory_in(command: str, text: str) -> int:
    """Returns the bytes of `--max-memory`; ends the process if it says none.

    Args:
        command: What was called, such as "widenet predict".
        text: What was given.
    """
    try:
        return memory_of(text)
    except ValueError as error:
        stop(command, f"--max-memory: {error}", USAGE)
