"""The entry point of `widenet`: finds the subcommand, parses it, runs it.

Nothing here imports Keras before the words have been read: wrong words are answered at
once, and they say which backend Keras is to run on.
"""

import importlib
import sys

from widenet_keras.cli.backend import run_on
from widenet_keras.utils.checks import suggest
from widenet_keras.utils.command_line import (
    USAGE,
    check_tyro,
    run_command,
    stop,
    told_in_one_line,
)
from widenet_keras.version import __version__

# Module and class of each subcommand: a dataclass with `backend`, `check()`, which says
# what is wrong without Keras, and `run()`.
COMMANDS = {
    "convert": ("widenet_keras.cli.convert", "Convert"),
    "evaluate": ("widenet_keras.cli.evaluate", "Evaluate"),
    "export": ("widenet_keras.cli.export", "Export"),
    "extract": ("widenet_keras.cli.plain_conversions", "Extract"),
    "measure": ("widenet_keras.cli.measure", "Measure"),
    "merge": ("widenet_keras.cli.plain_conversions", "Merge"),
    "predict": ("widenet_keras.cli.predict", "Predict"),
    "prune": ("widenet_keras.cli.prune", "Prune"),
    "prune-prompts": ("widenet_keras.cli.prune_prompts", "PrunePrompts"),
    "relax": ("widenet_keras.cli.relax", "Relax"),
    "report": ("widenet_keras.cli.report", "Report"),
    "tie": ("widenet_keras.cli.tie", "Tie"),
    "untie": ("widenet_keras.cli.plain_conversions", "Untie"),
}
_USAGE = f"usage: widenet {{{','.join(COMMANDS)}}} ... (widenet COMMAND --help)"


def main(arguments=None):
    """Runs `widenet`.

    Args:
        arguments: The words after `widenet`; None takes those of the process.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    with told_in_one_line("widenet"):
        _main(arguments)


def _main(arguments):
    backend, arguments = _leading_backend(arguments)
    if arguments[:1] == ["--version"]:
        print(f"widenet_keras {__version__}")
        return
    if arguments[:1] in (["-h"], ["--help"]):
        print(_help())
        return
    if not arguments:
        stop("widenet", _USAGE, USAGE)
    name, *rest = arguments
    if name not in COMMANDS:
        line = f"no command {name!r}.{suggest(name, COMMANDS)} {_USAGE}"
        stop("widenet", line, USAGE)
    check_tyro(f"widenet {name}")

    def run(command):
        command.check()
        run_on(command.backend, [name, *backend, *rest])
        command.run()

    run_command(run, _kind(name), f"widenet {name}", [*backend, *rest])


def _leading_backend(arguments):
    """Returns the words of `--backend B` in front of a command, and the others."""
    if arguments[:1] == ["--backend"]:
        return arguments[:2], arguments[2:]
    if arguments and arguments[0].startswith("--backend="):
        return arguments[:1], arguments[1:]
    return [], arguments


def _kind(name):
    """Returns the dataclass of a subcommand."""
    module, kind = COMMANDS[name]
    return getattr(importlib.import_module(module), kind)


def _help():
    """Returns what each command is for, a line each."""
    check_tyro("widenet")
    lines = [
        "usage: widenet [--backend {tensorflow,jax,torch}] COMMAND ...",
        "",
        *(f"  {name:<14}{_kind(name).__doc__.splitlines()[0]}" for name in COMMANDS),
        "",
        "widenet COMMAND --help lists its flags; widenet --version says the version.",
    ]
    return "\n".join(lines)
