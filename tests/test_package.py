"""The package as it is built: what is in it, and that it needs no repository."""

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from importlib.machinery import ModuleSpec
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_notebook import TINY, as_script

import widenet_keras
from widenet_keras.data.requirements import has_tensorflow
from widenet_keras.runs.run import _has_tensorboard
from widenet_keras.utils import install
from widenet_keras.utils.install import is_installed

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CODE = ("widenet_keras", "widenet_command.py")
# What `python -m build` calls, in a process whose folder is that of the project.
BUILD = """
import sys
from setuptools import build_meta
getattr(build_meta, sys.argv[1])(sys.argv[2])
"""


def tracked():
    """Returns the files of the project: those that git knows, or would."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    if (ROOT / ".git").exists():
        listed = subprocess.check_output(command, cwd=ROOT, text=True).splitlines()
        return [name for name in listed if (ROOT / name).is_file()]
    every = (path.relative_to(ROOT) for path in ROOT.rglob("*") if path.is_file())
    return [str(path) for path in every if "__pycache__" not in path.parts]


def built(kind, project, output):
    """Returns the file that setuptools builds of a project: "sdist" or "wheel"."""
    output.mkdir()
    command = [sys.executable, "-c", BUILD, f"build_{kind}", str(output)]
    done = subprocess.run(
        command, cwd=project, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    [file] = output.iterdir()
    return file


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    """The source distribution, built of a copy of the project's files."""
    pytest.importorskip("setuptools", minversion="77")
    root = tmp_path_factory.mktemp("sdist")
    for name in tracked():
        copy = root / "project" / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, copy)
    return built("sdist", root / "project", root / "dist")


@pytest.fixture(scope="module")
def wheel(sdist, tmp_path_factory):
    """The wheel, built of the source distribution, as `python -m build` does."""
    root = tmp_path_factory.mktemp("wheel")
    with tarfile.open(sdist) as archive:
        archive.extractall(root, filter="data")
    [project] = root.iterdir()
    return built("wheel", project, root / "dist")


def bare_environment(root):
    """Makes a virtual environment with all that this one has but the package.

    Returns:
        Its Python.
    """
    venv, others = root / "venv", root / "others"
    subprocess.check_call([sys.executable, "-m", "venv", "--without-pip", str(venv)])
    others.mkdir()
    folders = [Path(name) for name in sys.path if name.endswith("site-packages")]
    for each in (each for folder in folders for each in folder.iterdir()):
        if "widenet" not in each.name and not (others / each.name).exists():
            (others / each.name).symlink_to(each)
    [site] = venv.glob("lib/python*/site-packages")
    (site / "others.pth").write_text(str(others))
    return venv / "bin" / "python"


def printed_in(folder, *words, **variables):
    """Returns what a program prints that knows nothing of the repository."""
    names = {name: v for name, v in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [str(word) for word in words],
        cwd=folder,
        # Whatever pip needs is there.
        env={**names, "MPLBACKEND": "agg", "PIP_NO_INDEX": "1", **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def python(wheel, tmp_path_factory):
    """The Python of an environment with the wheel."""
    root = tmp_path_factory.mktemp("environment")
    python = bare_environment(root)
    printed_in(root, python, "-m", "pip", "install", "--quiet", "--no-deps", wheel)
    return python


def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
        metadata = next(name for name in held if name.endswith("/METADATA"))
        text = archive.read(metadata).decode()
    info = str(Path(metadata).parent)
    assert f"{info}/licenses/LICENSE" in held
    assert f"\nVersion: {widenet_keras.__version__}\n" in text
    # Every file of the package, those that are no Python too.
    code = {name for name in tracked() if name.split("/")[0] in CODE}
    assert {name for name in held if not name.startswith(f"{info}/")} == code


def test_the_source_has_what_tests_need_and_no_pictures_of_results(sdist):
    with tarfile.open(sdist) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    there = {name.split("/")[0] for name in held}
    for name in ("tests", "recipes", "benchmarks", "saved_models", "CHANGELOG.md"):
        assert name in there, name
    assert {"tests/conftest.py", ".ci/oldest.txt", "Makefile"} <= held
    assert not [name for name in held if "results/" in name and name.endswith("png")]
    assert sdist.stat().st_size < 5e6


def test_it_predicts_without_the_repository(python, tmp_path):
    Image.new("L", (20, 30), 200).save(tmp_path / "grey.png")
    model = ROOT / "saved_models" / "digits" / "model.keras"
    shutil.copy(model, tmp_path / "model.keras")
    words = ["predict", "grey.png", "--model", "model.keras", "--backend", "torch"]
    printed = printed_in(tmp_path, python.with_name("widenet"), *words)
    assert printed.startswith("grey.png")


def test_it_says_how_to_add_to_it_without_the_repository(python, tmp_path):
    [file] = python.parents[1].glob(
        "lib/*/site-packages/widenet_keras/utils/install.py"
    )
    # Without the package around it, which would import Keras.
    says = "import runpy, sys; print(runpy.run_path(sys.argv[1])['install_command']"
    found = printed_in(tmp_path, python, "-c", f"{says}('onnx'))", file)
    assert found.strip() == of_names(PROJECT["optional-dependencies"]["onnx"])


@pytest.mark.slow
def test_ten_lines_without_the_repository(python, tmp_path):
    readme = (ROOT / "README.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    [code] = [each for each in blocks if "load_digits" in each]
    (tmp_path / "ten.py").write_text(code)
    printed_in(tmp_path, python, "ten.py")
    made = {path.name for path in tmp_path.iterdir()}
    assert made == {"ten.py", "routing.png", "model.keras", "model.tflite"}


@pytest.mark.slow
def test_the_notebook_with_the_wheel_beside_it(wheel, tmp_path):
    environment, folder = tmp_path / "environment", tmp_path / "folder"
    environment.mkdir()
    folder.mkdir()
    shutil.copy(wheel, folder)
    draw = np.random.default_rng(0).integers
    parts = {"x_train": (24, 16, 16, 3), "x_test": (12, 16, 16, 3)}
    images = {name: draw(0, 256, shape, "uint8") for name, shape in parts.items()}
    labels = {"y_train": np.arange(24) % 3, "y_test": np.arange(12) % 3}
    np.savez(folder / "images.npz", **images, **labels)
    script = as_script("import inspect; print(inspect.getfile(widenet_keras))")
    (folder / "notebook.py").write_text(script)
    settings = {"DATA": "images.npz", "FIELDS": TINY, "EPOCHS": "1", "BATCH_SIZE": "8"}
    variables = {f"WIDENET_{name}": value for name, value in settings.items()}
    python = bare_environment(environment)
    *_, place = printed_in(folder, python, "notebook.py", **variables).splitlines()
    assert Path(place).is_relative_to(environment)
    for name in ("model.keras", "model.tflite", "metrics.json"):
        assert (folder / "runs" / "colab_tpu" / name).stat().st_size > 0


def of_names(requirements):
    """Returns the command that installs packages by their names."""
    return " ".join(["python -m pip install", *map(shlex.quote, requirements)])


def test_a_checkout_is_added_to_by_its_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    assert install.install_command("onnx") == "python -m pip install -e '.[onnx]'"
    monkeypatch.chdir(tmp_path)
    command = shlex.split(install.install_command("onnx"))
    assert command[-2:] == ["-e", f"{ROOT}[onnx]"]
    # A shell takes the folder as one word, whatever its name is.
    odd = tmp_path / "it's mine"
    odd.mkdir()
    (odd / "pyproject.toml").write_text('[project]\nname = "widenet_keras"\n')
    monkeypatch.setattr(install, "_ROOT", odd)
    assert shlex.split(install.install_command("onnx"))[-1] == f"{odd}[onnx]"


def test_a_wheel_is_added_to_by_the_names_of_others(monkeypatch, tmp_path):
    # The folder of a project that holds a copy of the package is no checkout.
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "flowers"\n')
    monkeypatch.setattr(install, "_ROOT", tmp_path)
    required = [
        "keras>=3.13.1",
        'onnx>=1.17; extra == "onnx"',
        "keras-cv>=0.9; extra == 'keras-cv'",
        'tf2onnx>=1.17; extra == "onnx"',
    ]
    monkeypatch.setattr(install.metadata, "requires", lambda name: required)
    found = install.install_command("onnx")
    assert found == "python -m pip install 'onnx>=1.17' 'tf2onnx>=1.17'"
    found = install.install_command("keras-cv")
    assert found == "python -m pip install 'keras-cv>=0.9'"


def test_a_copy_that_pip_does_not_know_says_what_to_give_pip(monkeypatch, tmp_path):
    def unknown(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(install, "_ROOT", tmp_path)
    monkeypatch.setattr(install.metadata, "requires", unknown)
    found = install.install_command("onnx")
    assert "pip install 'WHEEL[onnx]', where WHEEL is the wheel" in found


def test_a_folder_of_its_name_is_no_module(monkeypatch, tmp_path):
    assert is_installed("keras")
    assert not is_installed("a_name_of_nothing")
    (tmp_path / "a_name_of_nothing").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    assert importlib.util.find_spec("a_name_of_nothing") is not None
    assert not is_installed("a_name_of_nothing")
    of_folder = lambda name: ModuleSpec(name, None)  # noqa: E731
    monkeypatch.setattr("importlib.util.find_spec", of_folder)
    assert not has_tensorflow()
    assert not _has_tensorboard()


def test_every_extra_that_is_named_exists():
    folders = [ROOT / "widenet_keras", ROOT / "recipes", ROOT / "benchmarks"]
    files = [file for folder in folders for file in folder.rglob("*.py")]
    texts = {path.relative_to(ROOT).as_posix(): path.read_text() for path in files}
    named = {
        name
        for text in texts.values()
        for name in re.findall(r"install_command\(['\"]([\w-]+)['\"]\)", text)
    }
    assert len(named) > 7
    assert named - set(PROJECT["optional-dependencies"]) == set()
    # One place says how; docstrings of recipes, which are read in a checkout, may.
    said = re.compile(r"pip install(?! -e '\.\[)")
    places = {name for name, text in texts.items() if said.search(text)}
    assert places == {"widenet_keras/utils/install.py"}


def test_bounds_are_the_same_wherever_they_stand():
    bounds = {}
    for extra, requirements in PROJECT["optional-dependencies"].items():
        for each in requirements:
            name, bound = re.split("(?=[<>=!~])", each, maxsplit=1)
            assert bounds.setdefault(name, bound) == bound, (extra, name)
    tested = PROJECT["optional-dependencies"]["test"]
    assert f"tensorboard{bounds['tensorboard']}" in tested


def test_the_changelog_begins_with_this_version():
    text = (ROOT / "CHANGELOG.md").read_text()
    newest, date = re.search(r"^## (\S+) - (\S+)$", text, re.MULTILINE).groups()
    released, _, draft = widenet_keras.__version__.partition(".dev")
    assert newest == released
    assert (date == "unreleased") == bool(draft)
