"""How what is missing is installed, in words that work for who reads them."""

import importlib.util
import re
import shlex
import tomllib
from importlib import metadata
from pathlib import Path

_NAME = "widenet_keras"
_ROOT = Path(__file__).parents[2]


def is_installed(module: str) -> bool:
    """Whether there is a module; a mere folder of its name is none.

    Args:
        module: Its name.
    """
    spec = importlib.util.find_spec(module)
    return spec is not None and spec.origin is not None


def install_command(extra: str) -> str:
    """Returns the command that installs an optional part of this package.

    The package is on no registry, so its name means nothing to pip. In a checkout
    the command names its folder; elsewhere it names the other packages of the part,
    with the versions that the installed package asks for.

    Args:
        extra: A name of `[project.optional-dependencies]`.
    """
    if is_checkout(_ROOT):
        place = "." if Path.cwd() == _ROOT else str(_ROOT)
        return f"python -m pip install -e {shlex.quote(f'{place}[{extra}]')}"
    needed = _requirements(extra)
    if not needed:
        return (
            f"python -m pip install 'WHEEL[{extra}]', where WHEEL is the wheel or the "
            f"folder of {_NAME}"
        )
    return " ".join(["python -m pip install", *map(shlex.quote, needed)])


def is_checkout(folder: Path) -> bool:
    """Whether a folder is one that this package is built from.

    Args:
        folder: The folder; one that merely holds a copy of the package is none.
    """
    try:
        project = tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))
    except (OSError, ValueError):
        return False
    return project.get("project", {}).get("name") == _NAME


def _requirements(extra):
    """Returns what an extra of the installed package asks for; nothing if unknown."""
    try:
        every = metadata.requires(_NAME) or []
    except metadata.PackageNotFoundError:
        return []
    of_extra = re.compile(rf"""(.+?)\s*;\s*extra == ["']{re.escape(extra)}["']""")
    return [found[1] for each in every if (found := of_extra.fullmatch(each))]
