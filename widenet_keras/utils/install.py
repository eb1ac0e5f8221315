"""How what is missing is installed."""

from pathlib import Path

_CHECKOUT = Path(__file__).parents[2]


def install_command(extra: str) -> str:
    """Returns the command that installs an optional part of this package.

    The package is on no registry: it is a checkout, or was installed from one, and
    then pip knows its extras by its name.

    Args:
        extra: A name of `[project.optional-dependencies]`.
    """
    if not (_CHECKOUT / "pyproject.toml").exists():
        return f"pip install 'widenet_keras[{extra}]'"
    place = "." if Path.cwd() == _CHECKOUT else _CHECKOUT
    return f"pip install -e '{place}[{extra}]'"
