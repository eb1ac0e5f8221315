"""The structure of the package: imports point one way, files stay small."""

import ast
from pathlib import Path

import selection

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "widenet_keras"
TESTS = ROOT / "tests"
FILES = sorted(PACKAGE.rglob("*.py"))

# A folder may import from itself and from those before it.
ORDER = (
    "version",
    "moved",
    "utils",
    "plot",
    "routing",
    "layers",
    "models",
    "files",
    "data",
    "optimizers",
    "distribution",
    "training",
    "inference",
    "exports",
    "conversions",
    "evaluation",
    "reports",
    "runs",
    "cli",
)
# The network's methods hand on to verbs: what such a method may import, and no other.
HANDED_ON = {
    ("models/widenet.py", "adapted"): "widenet_keras.conversions.adapt",
    ("models/from_preset.py", "from_preset"): "widenet_keras.files.preset_folders",
    ("models/from_preset.py", "save_to_preset"): "widenet_keras.files.preset_folders",
}
# Code for one backend lives in files named for it.
BACKENDS = {"tensorflow", "jax", "torch"}
# Everything in this folder is tf.data.
TENSORFLOW_FOLDER = PACKAGE / "data" / "pipeline"


def imports(path):
    """Returns the full names of the modules that a file imports."""
    return imports_inside(ast.parse(path.read_text()))


def imports_inside(tree):
    """Returns the full names of the modules that are imported anywhere in a tree."""
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            names.append(node.module)
        elif isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
    return names


def handed_on(path):
    """Returns what methods of a file import that hand on to a verb."""
    file = path.relative_to(PACKAGE).as_posix()
    verbs = {name: verb for (owner, name), verb in HANDED_ON.items() if owner == file}
    return [
        name
        for node in (ast.walk(ast.parse(path.read_text())) if verbs else ())
        if isinstance(node, ast.FunctionDef) and node.name in verbs
        for name in imports_inside(node)
        if verbs[node.name] == name
    ]


def place(name):
    """Returns the folder or file of the package that a module name is in."""
    return name.split(".")[1] if "." in name else None


def offenders(wrong):
    """Returns what is wrong with files of the package, a line for each of them.

    Args:
        wrong: Function of a path that returns what is wrong there, or nothing.
    """
    found = {str(path.relative_to(PACKAGE)): wrong(path) for path in FILES}
    return [f"{path}: {what}" for path, what in found.items() if what]


def test_imports_point_one_way():
    def wrong(path):
        here = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        names = imports(path)
        for name in handed_on(path):
            names.remove(name)
        ours = [name for name in names if name.startswith("widenet_keras")]
        places = {place(name) for name in ours} - {None, here}
        return [
            there
            for there in sorted(places if here != "__init__" else [])
            if ORDER.index(there) >= ORDER.index(here)
        ]

    assert offenders(wrong) == []


def test_backends_are_imported_in_files_named_for_them_only():
    def wrong(path):
        backends = {name.split(".")[0] for name in imports(path)} & BACKENDS
        if TENSORFLOW_FOLDER in path.parents:
            backends.discard("tensorflow")
        return sorted(backends - set(path.stem.split("_")))

    assert offenders(wrong) == []


def test_files_stay_small():
    def wrong(path):
        lines = len(path.read_text().splitlines())
        return f"{lines} lines" if lines > 250 else None

    assert offenders(wrong) == []


def test_the_oldest_versions_are_the_lower_bounds():
    bounds = (ROOT / "pyproject.toml").read_text()
    for line in (ROOT / ".ci" / "oldest.txt").read_text().split():
        assert f'"{line.replace("==", ">=")}"' in bounds, line


def test_ci_and_make_run_the_second_command_of_the_readme():
    readme = (ROOT / "README.md").read_text()
    commands = [b.split("```")[0].strip() for b in readme.split("```bash\n")[1:]]
    for file in (".ci/run", "Makefile"):
        assert commands[1] in (ROOT / file).read_text(), file


def test_the_tables_of_backends_name_tests_that_are_there():
    def names(path):
        tree = ast.walk(ast.parse(path.read_text()))
        tests = [n.name for n in tree if isinstance(n, ast.FunctionDef)]
        return [path.name, *(f"{path.name}::{name}" for name in tests)]

    there = [name for path in TESTS.glob("test_*.py") for name in names(path)]
    entries = [*selection.ONCE, *selection.ONLY]
    assert [e for e in entries if not any(n.startswith(e) for n in there)] == []
