"""Names that have moved, under their old ones for one version, with a warning."""

import importlib
import sys
import types
import warnings
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from typing import Any

# Modules, and names that were at the top of the package.
_MODULES = {
    "widenet_keras.data.digits": "widenet_keras.data.sources.digits",
    "widenet_keras.training.optimization": "widenet_keras.optimizers.optimization",
    "widenet_keras.training.run": "widenet_keras.runs.run",
}
_NAMES = {
    "parse_fields": "widenet_keras.models",
    "plot_class_experts": "widenet_keras.plot",
    "plot_history": "widenet_keras.plot",
    "plot_load": "widenet_keras.plot",
    "plot_load_history": "widenet_keras.plot",
    "plot_patches": "widenet_keras.plot",
    "plot_routing": "widenet_keras.plot",
}


def moved_name(name: str) -> Any:
    """Returns what was called `widenet_keras.<name>` and is somewhere else now.

    Args:
        name: The name.

    Raises:
        AttributeError: If nothing had that name.
    """
    if name not in _NAMES:
        raise AttributeError(f"module 'widenet_keras' has no attribute {name!r}")
    module = _NAMES[name]
    _warn(f"widenet_keras.{name}", f"{module}.{name}", level=4)
    return getattr(importlib.import_module(module), name)


def find_moved_modules() -> None:
    """Has `import` find modules under their old names."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())


class _Finder(MetaPathFinder, Loader):
    """Finds what no other finder did, as a module with the names of the new one."""

    def find_spec(self, fullname, path=None, target=None):
        return ModuleSpec(fullname, self) if fullname in _MODULES else None

    def create_module(self, spec):
        return types.ModuleType(spec.name)

    def exec_module(self, module):
        there = _MODULES[module.__name__]
        _warn(module.__name__, there, level=3)
        names = vars(importlib.import_module(there)).items()
        vars(module).update({k: v for k, v in names if not k.startswith("__")})


def _warn(before, now, level):
    warnings.warn(
        f"{before} is {now} now; the old name goes with the next version.",
        FutureWarning,
        stacklevel=level,
    )
