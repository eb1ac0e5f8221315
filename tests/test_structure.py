"""The structure of the package: imports point one way, files stay small."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "widenet_keras"
FILES = sorted(PACKAGE.rglob("*.py"))

# A folder may import from itself and from those of lower rank.
RANKS = {
    "version": 0,
    "utils": 0,
    "routing": 1,
    "layers": 2,
    "models": 3,
    "plot": 4,
    "training": 4,
    "data": 4,
    "exports": 4,
    "inference": 4,
    "distribution": 4,
    "evaluation": 5,
    "cli": 6,
}
# Code for one backend lives in files named for it.
BACKEND_FILES = {
    "tensorflow": {
        "depth_tensorflow.py",
        "expert_runs_tensorflow.py",
        "listed_tensorflow.py",
        "tensorflow_strategies.py",
        "tensorflow_export.py",
        "tensorflow_graphs.py",
        "tensorflow_litert.py",
        "tensorflow_litert_int8.py",
        "tensorflow_onnx.py",
        "tensorflow_saved_model.py",
        "tensorflow_step.py",
    },
    "jax": {
        "depth_jax.py",
        "expert_runs_jax.py",
        "gather_jax.py",
        "jax_batches.py",
        "jax_devices.py",
        "jax_step.py",
    },
    "torch": {
        "expert_runs_torch.py",
        "torch_job.py",
        "torch_processes.py",
        "torch_step.py",
    },
}


# Everything in this folder is tf.data.
TENSORFLOW_FOLDER = PACKAGE / "data" / "pipeline"


def imports(path):
    """Returns the full names of the modules that a file imports."""
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            names.append(node.module)
        elif isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
    return names


def place(name):
    """Returns the folder or file of the package that a module name is in."""
    return name.split(".")[1] if "." in name else None


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_imports_point_one_way(path):
    relative = path.relative_to(PACKAGE)
    here = relative.parts[0].removesuffix(".py")
    if here == "__init__":
        return
    for name in imports(path):
        there = place(name) if name.startswith("widenet_keras") else None
        if there and there != here:
            assert RANKS[there] < RANKS[here] or RANKS[there] == RANKS[here] == 4, name


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_backends_are_imported_in_files_named_for_them_only(path):
    for name in imports(path):
        backend = name.split(".")[0]
        if backend == "tensorflow" and TENSORFLOW_FOLDER in path.parents:
            continue
        allowed = BACKEND_FILES.get(backend)
        assert allowed is None or path.name in allowed, name


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_files_stay_small(path):
    assert len(path.read_text().splitlines()) <= 250


def test_ci_runs_the_second_command_of_the_readme():
    readme = (ROOT / "README.md").read_text()
    commands = [b.split("```")[0].strip() for b in readme.split("```bash\n")[1:]]
    assert commands[1] in (ROOT / ".ci" / "run").read_text()
