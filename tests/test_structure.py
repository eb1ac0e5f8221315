"""The structure of the package: imports point one way, files stay small."""

import ast
import graphlib
import importlib.util
import re
from pathlib import Path

import selection

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "widenet_keras"
TESTS = ROOT / "tests"
DRAWING = ROOT / "docs" / "draw_structure.py"
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
# One file for each kind of source.
SOURCES = "widenet_keras.data.sources"


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


def dotted(path):
    """Returns the name that a file of the package is imported by."""
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    return name.removesuffix(".__init__")


def imported_modules(path, known):
    """Returns those of some names of modules that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                found.add(full if full in known else node.module)
    return found & known


def test_no_files_of_a_folder_import_each_other_in_a_circle():
    circles = []
    for folder in sorted(path for path in PACKAGE.iterdir() if path.is_dir()):
        files = {dotted(path): path for path in folder.rglob("*.py")}
        graph = {
            name: imported_modules(path, files.keys() - {name})
            for name, path in files.items()
        }
        try:
            graphlib.TopologicalSorter(graph).prepare()
        except graphlib.CycleError as error:
            circles.append(error.args[1])
    assert circles == []


def test_only_a_source_says_what_it_is():
    def wrong(path):
        if "sources" in path.parts:
            return None
        text = path.read_text()
        asked = re.findall(r"isinstance\([^)]*Source\b|\bsource\.kind\b", text)
        made = [name for name in imports(path) if name.startswith(SOURCES)]
        # These hand on what is in the folder, and write what one of them reads.
        if path.relative_to(PACKAGE).as_posix() not in (
            "data/__init__.py",
            "data/write_tfrecords.py",
        ):
            asked += [name for name in made if name != SOURCES]
        return asked

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


def test_the_drawing_is_of_these_folders():
    spec = importlib.util.spec_from_file_location("draw_structure", DRAWING)
    drawing = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(drawing)
    assert drawing.order() == ORDER
    told = "run python docs/draw_structure.py"
    assert drawing.PICTURE.read_text() == drawing.picture(), told


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
