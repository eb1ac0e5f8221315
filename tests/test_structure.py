"""The structure of the package: imports point one way, files stay small."""

import ast
import collections
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
# Functions that import what a text names.
BY_NAME = {"import_module", "__import__"}
# Code for one backend lives in files named for it: `<subject>_<backend>.py`.
BACKENDS = {"tensorflow", "jax", "torch"}
# Everything in this folder is tf.data.
TENSORFLOW_FOLDER = PACKAGE / "data" / "pipeline"
# What gives TensorFlow to all that read data with it, whatever the backend is, or says
# what to install.
GIVES_TENSORFLOW = PACKAGE / "data" / "requirements.py"
# TensorFlow is a library as well, of data and exported files, on any backend: who takes
# what is written with it without asking which backend runs, and why.
AS_A_LIBRARY = {
    ("models/preprocessor.py", "models.resizing_tensorflow"): "images in tf.data",
    ("training/data_checks.py", "training.data_checks_tensorflow"): "a tf.data.Dataset",
    ("inference/litert.py", "inference.litert_tensorflow"): "without ai-edge-litert",
    ("inference/litert_graph.py", "inference.litert_tensorflow"): "the same",
    ("routing/engines/choice.py", "routing.engines.listed_tensorflow"): "in exports",
}
# One file for each kind of source.
SOURCES = "widenet_keras.data.sources"
# These hand on what is in such files, and write what one of them reads.
MAY_NAME_A_SOURCE = {"data/__init__.py", "data/write_tfrecords.py"}


def imports(path):
    """Returns the full names of the modules that a file imports."""
    return imports_inside(ast.parse(path.read_text()))


def imports_inside(tree):
    """Returns the full names of the modules that are imported anywhere in a tree."""
    return [name for node in ast.walk(tree) for name in imported(node)]


def imported(node):
    """Returns the full names of the modules that a node imports, by name too."""
    if isinstance(node, ast.ImportFrom):
        inside = [f"{node.module}.{alias.name}" for alias in node.names]
        files = [name for name in inside if is_file(name)]
        return [node.module, *files]
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if called(node) in BY_NAME and node.args:
        given = node.args[0]
        return [given.value] if isinstance(given, ast.Constant) else []
    return []


def called(node):
    """Returns the last name of the function that a node calls, or None."""
    function = getattr(node, "func", None)
    return getattr(function, "attr", getattr(function, "id", None))


def is_file(name):
    """Whether a full name is that of a file of the package."""
    return (ROOT / name.replace(".", "/")).with_suffix(".py").is_file()


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
        here = path.relative_to(PACKAGE).as_posix()
        if here.startswith("data/sources/"):
            return []
        asked = re.findall(
            r"isinstance\([^)]*Source\b|\bsource\.kind\b", path.read_text()
        )
        names = [name for name in imports(path) if name.startswith(f"{SOURCES}.")]
        return asked + (names if here not in MAY_NAME_A_SOURCE else [])

    assert offenders(wrong) == []


def test_backends_are_imported_in_files_named_for_them_only():
    def wrong(path):
        backends = {name.split(".")[0] for name in imports(path)} & BACKENDS
        if TENSORFLOW_FOLDER in path.parents or path == GIVES_TENSORFLOW:
            backends.discard("tensorflow")
        return sorted(backends - {path.stem.split("_")[-1]})

    assert offenders(wrong) == []


def test_no_name_of_a_backend_is_imported_from_a_table():
    def wrong(path):
        nodes = [*ast.walk(ast.parse(path.read_text()))]
        by_name = [node for node in nodes if called(node) in BY_NAME]
        if all(isinstance(each, ast.Constant) for n in by_name for each in n.args[:1]):
            return None
        texts = {getattr(node, "value", None) for node in nodes if is_text(node)}
        return sorted(text for text in texts if text.split(".")[0] in BACKENDS)

    assert offenders(wrong) == []


def is_text(node):
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def backend_asked(node):
    """Returns B where a node is `if keras.backend.backend() == "B":`, else None."""
    if isinstance(node, ast.If):
        test = ast.unparse(node.test)
        for backend in BACKENDS:
            if test == f"keras.backend.backend() == '{backend}'":
                return backend
    return None


def chosen(nodes, there=frozenset(BACKENDS)):
    """Yields each module that is imported, and the backends that may run there.

    Args:
        nodes: List of nodes of a tree.
        there: The backends that may run where they stand.
    """
    for node in nodes:
        backend = backend_asked(node)
        if backend:
            yield from chosen(node.body, there & {backend})
            yield from chosen(node.orelse, there - {backend})
        else:
            yield from ((name, there) for name in imported(node))
            yield from chosen(ast.iter_child_nodes(node), there)


def backend_of(name):
    """Returns the backend that a module of the package is named for, or None."""
    last = name.rpartition(".")[2].rpartition("_")[2]
    return last if last in BACKENDS and is_file(name) else None


def test_the_file_of_a_backend_is_chosen_in_one_idiom():
    """By `if keras.backend.backend() == "torch":` and its `elif` and `else`."""

    def wrong(path):
        own = path.stem.rpartition("_")[2]
        if TENSORFLOW_FOLDER in path.parents:
            own = "tensorflow"
        file = path.relative_to(PACKAGE).as_posix()
        there = {own} if own in BACKENDS else BACKENDS
        return [
            name
            for name, backends in chosen([ast.parse(path.read_text())], there)
            if backend_of(name)
            and (backends == BACKENDS or backend_of(name) not in backends)
            and (file, name.removeprefix("widenet_keras.")) not in AS_A_LIBRARY
        ]

    assert offenders(wrong) == []


def test_what_takes_tensorflow_as_a_library_is_there():
    for file, module in AS_A_LIBRARY:
        assert f"widenet_keras.{module}" in imports(PACKAGE / file), file


def test_no_module_keeps_which_backend_runs():
    def wrong(path):
        return [
            ast.unparse(node)
            for node in ast.parse(path.read_text()).body
            if isinstance(node, ast.Assign | ast.AnnAssign)
            and "backend.backend()" in ast.unparse(node)
        ]

    assert offenders(wrong) == []


def test_files_stay_small():
    def wrong(path):
        lines = len(path.read_text().splitlines())
        return f"{lines} lines" if lines > 250 else None

    assert offenders(wrong) == []


def test_no_small_file_has_one_user_alone():
    """It belongs into that user; but for where a backend is chosen, and its files."""
    users = collections.Counter(
        name for path in FILES for name in set(imports(path)) if is_file(name)
    )

    def wrong(path):
        subject = path.with_suffix("").relative_to(ROOT).as_posix().replace("/", ".")
        by_backend = [f"{subject}_{each}" for each in BACKENDS]
        chosen = any(map(is_file, by_backend)) or backend_of(subject)
        if path.name.startswith("__") or chosen or users[subject] > 1:
            return None
        lines = len(path.read_text().splitlines())
        return f"{lines} lines, and {users[subject]} user" if lines <= 25 else None

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
    entries = [*selection.ONCE, *selection.ONLY, *selection.ACCELERATOR]
    assert [e for e in entries if not any(n.startswith(e) for n in there)] == []
