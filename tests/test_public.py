"""The public face: what packages offer, its type hints and its docstrings."""

import ast
import dataclasses
import functools
import importlib
import inspect
import itertools
import pkgutil
import re
import textwrap
import types
import typing
from pathlib import Path

import widenet_keras

PACKAGE = Path(widenet_keras.__file__).parent
# Packages that offer nothing to users, with those inside them.
INTERNAL = ("cli", "data.pipeline", "data.sources", "utils")


def is_internal(name):
    inside = name.partition(".")[2] + "."
    return any(inside.startswith(f"{each}.") for each in INTERNAL)


PACKAGES = [
    "widenet_keras",
    *(
        found.name
        for found in pkgutil.walk_packages(widenet_keras.__path__, "widenet_keras.")
        if found.ispkg and not is_internal(found.name)
    ),
]


def offered():
    """Returns what all packages offer, each once, by a name of it."""
    found = {}
    for package in map(importlib.import_module, PACKAGES):
        for name in package.__all__:
            value = getattr(package, name)
            if inspect.isclass(value) or inspect.isfunction(value):
                found.setdefault(value, f"{package.__name__}.{name}")
    return {name: value for value, name in found.items()}


OFFERED = offered()


def functions_of(name, value):
    """Yields the functions of what is offered that are ours, with their names."""
    if inspect.isfunction(value):
        yield name, inspect.unwrap(value)
        return
    for base in value.__mro__:
        if not base.__module__.startswith("widenet_keras"):
            continue
        for key, member in vars(base).items():
            if key.startswith("_") and key != "__init__":
                continue
            for each in (
                [member.fget, member.fset]
                if isinstance(member, property)
                else [getattr(member, "func", member)]
                if isinstance(member, functools.cached_property)
                else [getattr(member, "__func__", member)]
            ):
                # Not those that a dataclass or a NamedTuple is given.
                ours = inspect.isfunction(each) and each.__name__ != "<lambda>"
                if ours and inspect.unwrap(each).__module__ == base.__module__:
                    yield (
                        f"{base.__module__}.{base.__name__}.{key}",
                        inspect.unwrap(each),
                    )


def test_what_a_package_offers_is_there_and_nothing_else():
    for package in map(importlib.import_module, PACKAGES):
        names = package.__all__
        assert len(set(names)) == len(names), package
        there = {
            name
            for name, value in vars(package).items()
            if not name.startswith("_") and not isinstance(value, types.ModuleType)
        }
        modules = {n for n in names if inspect.ismodule(getattr(package, n))}
        assert there == set(names) - modules - {"__version__"}, package.__name__


def test_a_star_brings_what_is_offered():
    names = {}
    exec("from widenet_keras import *", names)
    assert set(widenet_keras.__all__) <= set(names)


def test_everything_offered_has_type_hints():
    missing = []
    for name, value in OFFERED.items():
        for place, function in functions_of(name, value):
            hints = typing.get_type_hints(function)
            signature = inspect.signature(function)
            wanted = [p for p in signature.parameters if p not in ("self", "cls")]
            if function.__name__ != "__init__":
                wanted.append("return")
            missing += [f"{place}: {each}" for each in wanted if each not in hints]
            # mypy is not asked for these, see pyproject.toml.
            for each in signature.parameters.values():
                hint = hints.get(each.name, typing.Any)
                if each.default is None and hint not in (typing.Any, object):
                    assert type(None) in typing.get_args(hint), (place, each.name)
    assert sorted(set(missing)) == []


def sections(docstring):
    """Returns the names in "Args:" and "Attributes:", or None without either."""
    found = None
    for head in ("Args", "Attributes"):
        if match := re.search(rf"^{head}:\n((?:(?:    .*)?\n?)*)", docstring, re.M):
            names = re.findall(r"^    (\*{0,2}\w+)(?: \(.*\))?:", match[1], re.M)
            found = (found or []) + names
            if head == "Args":
                return names
    return found


def documented_fields(value):
    """Returns the fields of a class that have a text of their own under them.

    Those of dataclasses that it is made of are among them.
    """
    found = set()
    for part in filter(dataclasses.is_dataclass, getattr(value, "__mro__", ())):
        tree = ast.parse(textwrap.dedent(inspect.getsource(part))).body[0].body
        found |= {
            field.target.id
            for field, text in itertools.pairwise(tree)
            if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr)
        }
    return found


def test_everything_offered_says_what_it_takes_and_returns():
    wrong = []
    for name, value in OFFERED.items():
        docstring = inspect.getdoc(value) or ""
        named = {each.lstrip("*") for each in sections(docstring) or ()}
        lacking = {*inspect.signature(value).parameters} - named
        if "__init__" not in vars(value) and "kwargs" in named:
            # Those of the base, which it names.
            lacking = set()
        # Some dataclasses have a line under each field, which is in their `--help`.
        lacking -= documented_fields(value)
        if not docstring or lacking:
            wrong.append(f"{name}: {sorted(lacking)}")
        returns = getattr(value, "__annotations__", {}).get("return")
        if inspect.isfunction(value) and returns is not None:
            told = re.search(r"(^(Says|Finds|Draws)|[Rr]eturns)\b", docstring)
            wrong += [] if told else [f"{name}: returns what?"]
    assert not wrong, "\n".join(wrong)


def parameters_of(function, is_method):
    """Returns the names that "Args:" of a function should have, in order."""
    a = function.args
    names = [each.arg for each in [*a.posonlyargs, *a.args]][1 if is_method else 0 :]
    names += [f"*{a.vararg.arg}"] if a.vararg else []
    names += [each.arg for each in a.kwonlyargs]
    return names + ([f"**{a.kwarg.arg}"] if a.kwarg else [])


def documented(tree):
    """Yields the name of every function or class with "Args:", these, and its own."""
    for node in ast.walk(tree):
        inside = getattr(node, "body", ())
        for each in inside if isinstance(inside, list) else ():
            if not isinstance(each, ast.FunctionDef | ast.ClassDef):
                continue
            docstring = ast.get_docstring(each) or ""
            if "\nArgs:\n" not in docstring:
                continue
            made, is_method = each, isinstance(node, ast.ClassDef)
            if isinstance(each, ast.ClassDef):
                starts = [n for n in each.body if getattr(n, "name", "") == "__init__"]
                if not starts:
                    # Those of a dataclass, or of a base.
                    continue
                [made], is_method = starts, True
            elif any(
                getattr(d, "id", "") == "staticmethod" for d in each.decorator_list
            ):
                is_method = False
            yield each.name, sections(docstring), parameters_of(made, is_method)


def test_docstrings_name_the_parameters_that_there_are():
    wrong = [
        f"{path.relative_to(PACKAGE)}: {name} tells of {told} and takes {takes}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for name, told, takes in documented(ast.parse(path.read_text()))
        if told != takes
    ]
    assert not wrong, "\n".join(wrong)
