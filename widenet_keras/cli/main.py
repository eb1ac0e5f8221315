"""The entry point of `widenet`: finds the subcommand, parses it, runs it."""

import importlib
import sys

from widenet_keras.cli.backend import run_on
from widenet_keras.utils.checks import suggest
from widenet_keras.utils.command_line import USAGE, check_tyro, run_command, stop

# Module and class of each subcommand: a dataclass with `backend` and `run()`.
COMMANDS = {
    "evaluate": ("widenet_keras.cli.evaluate", "Evaluate"),
    "export": ("widenet_keras.cli.export", "Export"),
    "predict": ("widenet_keras.cli.predict", "Predict"),
}


def main(arguments=None):
    """Runs `widenet`.

    Args:
        arguments: The words after `widenet`; None takes those of the process.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    usage = f"usage: widenet {{{','.join(COMMANDS)}}} ... (widenet COMMAND --help)"
    if arguments[:1] in (["-h"], ["--help"]):
        print(usage)
        return
    if not arguments:
        stop("widenet", usage, USAGE)
    name, *rest = arguments
    if name not in COMMANDS:
        stop("widenet", f"no command {name!r}.{suggest(name, COMMANDS)} {usage}", USAGE)
    command_line = f"widenet {name}"
    check_tyro(command_line)
    module, kind = COMMANDS[name]
    kind = getattr(importlib.import_module(module), kind)

    def run(command):
        run_on(command.backend, arguments)
        command.run()

    run_command(run, kind, command_line, rest)
