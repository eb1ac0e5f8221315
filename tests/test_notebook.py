"""The Colab notebook: clean on disk, and it runs from top to bottom."""

import csv
import fnmatch
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from pictures import noisy_folders

RECIPES = Path(__file__).parents[1] / "recipes"
NOTEBOOK = RECIPES / "colab_tpu.ipynb"
# 16 pixels, 4 patches; the engine is the one that JAX takes on GPUs.
TINY = "image_size=16 patch_size=8 width=12 steps=2 heads=3 expert_dim=14 engine=slots"


def cells(kind):
    """Returns the cells of a kind: "code" or "markdown"."""
    notebook = json.loads(NOTEBOOK.read_text())
    return [cell for cell in notebook["cells"] if cell["cell_type"] == kind]


def python(cell):
    """Returns a code cell as Python: IPython's own commands do nothing."""
    return re.sub(r"^( *)%.*$", r"\1pass", "".join(cell["source"]), flags=re.MULTILINE)


def as_script(*more):
    """Returns the notebook, and lines after it, as a script."""
    # What IPython defines for every notebook.
    return "\n\n".join(["display = print", *map(python, cells("code")), *more])


def recipe():
    """Returns `recipes/cifar10.py` as a module; the notebook trains as it does."""
    pytest.importorskip("tyro")
    spec = importlib.util.spec_from_file_location(
        "small_recipe", RECIPES / "cifar10.py"
    )
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_file_is_a_clean_notebook():
    notebook = json.loads(NOTEBOOK.read_text())
    # Cells have had ids since format 4.5.
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert len(cells("code")) + len(cells("markdown")) == len(notebook["cells"])
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,64}", each) for each in ids)
    for cell in notebook["cells"]:
        assert cell["metadata"] == {}
        *lines, last = cell["source"]
        assert all(line.endswith("\n") for line in lines)
        assert last.strip()
    for cell in cells("code"):
        assert cell["outputs"] == []
        assert cell["execution_count"] is None


def test_the_code_is_short_and_compiles():
    for cell in cells("code"):
        compile(python(cell), cell["id"], "exec")
        # What can be read in half a minute.
        assert len(cell["source"]) <= 30, cell["id"]


def names_of(*ids, **names):
    """Returns the names that code cells leave."""
    sources = {cell["id"]: python(cell) for cell in cells("code")}
    for each in ids:
        exec(sources[each], names)
    return names


@pytest.fixture
def found(monkeypatch):
    """Returns a function that finds the package where modules are missing."""
    find_spec = importlib.util.find_spec

    def find(folder, missing=("widenet_keras",), **names):
        monkeypatch.chdir(folder)
        monkeypatch.delenv("WIDENET_PACKAGE", raising=False)
        for name, value in names.items():
            monkeypatch.setenv(f"WIDENET_{name}", value)
        monkeypatch.setattr(
            "importlib.util.find_spec",
            lambda name: None if name in missing else find_spec(name),
        )
        return names_of("find", "wheel")

    return find


def wheels(folder, *versions):
    """Makes files with the names of wheels."""
    for version in versions:
        (folder / f"widenet_keras-{version}-py3-none-any.whl").touch()


def test_what_is_installed_is_taken(found, tmp_path):
    wheels(tmp_path, "0.2.0")
    assert found(tmp_path, missing=())["PACKAGE"] is None


def test_a_checkout_is_found_in_above_and_below_a_folder(found, tmp_path):
    root = RECIPES.parent
    for folder in (RECIPES, root, RECIPES.parent / "tests" / "frozen"):
        assert found(folder)["PACKAGE"] == root
    # As in Colab, whose folder is /content, above which is nothing.
    (tmp_path / "widenet_keras").symlink_to(root)
    assert found(tmp_path)["PACKAGE"] == tmp_path / "widenet_keras"
    assert found(tmp_path, PACKAGE="git+x")["PACKAGE"] == "git+x"


def test_a_folder_with_its_name_is_not_the_package(found, tmp_path, monkeypatch):
    (tmp_path / "a_name_of_nothing").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    is_there = found(tmp_path, missing=())["is_there"]
    assert importlib.util.find_spec("a_name_of_nothing") is not None
    assert not is_there("a_name_of_nothing")
    assert is_there("widenet_keras")


def test_the_newest_wheel_in_the_folder_is_taken(found, tmp_path):
    wheels(tmp_path, "0.9.0", "0.10.0.dev0", "0.10.0", "0.2.0")
    # What a browser calls it when it is downloaded again; pip does not read that.
    (tmp_path / "widenet_keras-0.11.0-py3-none-any (1).whl").touch()
    assert found(tmp_path)["PACKAGE"].name == "widenet_keras-0.10.0-py3-none-any.whl"


def in_colab(monkeypatch, files):
    """Puts the module that Colab has in its place; somebody uploads files."""
    colab = SimpleNamespace(files=SimpleNamespace(upload=lambda: files))
    monkeypatch.setitem(sys.modules, "google.colab", colab)


def test_colab_asks_for_a_wheel(found, monkeypatch, tmp_path):
    in_colab(monkeypatch, {"widenet_keras-0.2.0-py3-none-any (1).whl": b"wheel"})
    path = tmp_path / "widenet_keras-0.2.0-py3-none-any.whl"
    assert found(tmp_path)["PACKAGE"] == path
    assert path.read_bytes() == b"wheel"
    # It is asked for once.
    in_colab(monkeypatch, {})
    assert found(tmp_path)["PACKAGE"] == path


@pytest.mark.parametrize("colab", [False, True])
def test_a_notebook_without_the_package_says_so(found, monkeypatch, tmp_path, colab):
    if colab:
        in_colab(monkeypatch, {"photo.png": b""})
    with pytest.raises(SystemExit, match="wheel into this folder, or set PACKAGE"):
        found(tmp_path)


def installed(monkeypatch, names, fails=False, devices=()):
    """Returns what pip installs after the package was found, and what stays.

    With devices of a TPU what it takes away is in front.
    """
    calls = []

    def run(words, **options):
        calls.append(words)
        if "-c" in words:
            calls.append(Path(words[words.index("-c") + 1]).read_text().splitlines())
        return SimpleNamespace(returncode=int(fails and "install" in words))

    listed = "keras==3.13.2\nwidenet_keras==0.1.0\njax==0.7.2\n"
    monkeypatch.setattr(subprocess, "check_output", lambda words, **_: listed)
    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setattr("glob.glob", lambda name: fnmatch.filter(devices, name))
    monkeypatch.setattr(sys, "path", [*sys.path])
    names_of("install", "install-parts", **names)
    if not calls:
        return None
    *removed, words, kept = calls
    return *removed, words[words.index("-c") + 2 :], kept


PARTS = "[jax,plot,tensorflow,tfds]"


def test_what_is_there_keeps_its_version(found, monkeypatch, tmp_path):
    wheels(tmp_path, "0.2.0")
    words, kept = installed(monkeypatch, found(tmp_path))
    assert words == [f"{tmp_path}/widenet_keras-0.2.0-py3-none-any.whl{PARTS}"]
    assert kept == ["keras==3.13.2", "jax==0.7.2"]
    with pytest.raises(SystemExit, match="what to upgrade"):
        installed(monkeypatch, found(tmp_path), fails=True)


def test_a_checkout_is_installed_as_it_stands(found, monkeypatch):
    words, _ = installed(monkeypatch, found(RECIPES))
    assert words == ["-e", f"{RECIPES.parent}{PARTS}"]
    words, _ = installed(monkeypatch, found(RECIPES, PACKAGE="git+https://x"))
    assert words == [f"widenet_keras{PARTS} @ git+https://x"]


def test_only_what_is_missing_is_installed(found, monkeypatch, tmp_path):
    for name in ("jax", "matplotlib", "tensorflow", "tensorflow_datasets"):
        pytest.importorskip(name)
    assert installed(monkeypatch, found(tmp_path, missing=())) is None
    words, _ = installed(monkeypatch, found(tmp_path, missing=("jax",)))
    assert words == [f"widenet_keras{PARTS}"]


def test_a_folder_of_that_name_is_no_checkout(found, monkeypatch, tmp_path):
    (tmp_path / "widenet_keras").mkdir()
    words, _ = installed(monkeypatch, found(tmp_path, missing=("jax",)))
    assert words == [f"widenet_keras{PARTS}"]


@pytest.mark.parametrize("device", ["/dev/accel0", "/dev/vfio/0"])
def test_on_a_tpu_tensorflow_leaves_it_to_jax(found, monkeypatch, tmp_path, device):
    wheels(tmp_path, "0.2.0")
    wheel = f"{tmp_path}/widenet_keras-0.2.0-py3-none-any.whl"
    # Installed with less than all of its parts, or not at all.
    for missing, package in (("jax", "widenet_keras"), ("widenet_keras", wheel)):
        names = found(tmp_path, missing=(missing,))
        removed, words, _ = installed(monkeypatch, names, devices=[device])
        assert removed[-4:] == ["-q", "-y", "tensorflow", "tensorflow-tpu"]
        more = ["tensorflow-cpu>=2.19", "jax[tpu]"]
        assert words == [f"{package}[plot,tfds]", *more]


def test_images_are_shown_as_they_are():
    """Pale grey ones stay so, and a name is no formula."""
    figure = pytest.importorskip("matplotlib.figure").Figure()
    pyplot = SimpleNamespace(subplots=lambda *shape, **_: (figure, figure.subplots(2)))
    images, labels = np.full((2, 4, 4, 1), 0.5), np.eye(2)
    stream = SimpleNamespace(from_batch=lambda _: [(images, labels)])
    names_of(
        "batches",
        np=np,
        plt=pyplot,
        model=SimpleNamespace(
            config=SimpleNamespace(image_size=4, channels=1), preprocessing=None
        ),
        train=SimpleNamespace(num_classes=2, class_names=["$\\frac$", "b"]),
        test=None,
        Augmentation=lambda **_: None,
        trained_for=lambda model, train, test, augmentation: (train, test),
        training_batches=lambda *_, **__: stream,
        evaluation_batches=lambda *_, **__: None,
        EPOCH_BATCHES=1,
        BATCH_SIZE=2,
        SEED=0,
    )
    figure.draw_without_rendering()
    for axis in figure.axes:
        assert axis.images[0].get_clim() == (0, 1)


def settings(monkeypatch, platform="cpu", **environment):
    """Returns what the settings' cell sets on a device."""
    for name in [name for name in os.environ if name.startswith("WIDENET_")]:
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(f"WIDENET_{name}", value)
    return names_of("settings", os=os, device=SimpleNamespace(platform=platform))


def test_the_settings_are_those_of_the_recipe(monkeypatch):
    found, recipe_type = settings(monkeypatch), recipe().Recipe
    for name in ("PRESET", "EPOCHS", "BATCH_SIZE", "SEED"):
        assert found[name] == getattr(recipe_type, name.lower()), name
    assert found["DATA"] == "tfds:cifar10"


def test_the_environment_and_the_device_decide(monkeypatch):
    assert settings(monkeypatch)["DTYPE"] == "float32"
    assert settings(monkeypatch, "tpu")["DTYPE"] == "mixed_bfloat16"
    found = settings(monkeypatch, "gpu", EPOCHS="3", DATA="images", DTYPE="float32")
    assert (found["EPOCHS"], found["DATA"], found["DTYPE"]) == (3, "images", "float32")


@pytest.fixture
def folders(tmp_path):
    """Class folders of 24 and 12 noisy images in 3 classes."""
    return noisy_folders(tmp_path / "data", train=24, test=12)


def run(script, **settings):
    """Runs the notebook as a script and returns what it prints."""
    settings = {f"WIDENET_{name}": str(value) for name, value in settings.items()}
    done = subprocess.run(
        [sys.executable, script],
        env={**os.environ, "KERAS_BACKEND": "jax", "MPLBACKEND": "agg", **settings},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_it_runs_from_top_to_bottom_and_again(tmp_path, folders):
    script = tmp_path / "notebook.py"
    script.write_text(as_script())
    output = tmp_path / "run"
    changed = {
        "DATA": folders,
        "OUTPUT": output,
        "FIELDS": TINY,
        "EPOCHS": 2,
        "BATCH_SIZE": 8,
        # As on a TPU; the exports are in float32 all the same.
        "DTYPE": "mixed_bfloat16",
    }
    printed = run(script, **changed)
    assert "24 images in 3 class folders" in printed
    assert "compiling for the first batch ..." in printed
    assert "epoch 2/2" in printed
    names = ["model.keras", "model.tflite", "saved_model/saved_model.pb"]
    names += ["curves.png", "routing.png", "load/epoch_0002.png"]
    names += ["checkpoints/best.keras"]
    for name in names:
        assert (output / name).stat().st_size > 0
    classes = sorted(each.name for each in (folders / "train").iterdir())
    assert (output / "labels.txt").read_text().split() == classes
    metrics = json.loads((output / "metrics.json").read_text())
    assert f"test accuracy {metrics['accuracy']:.4f} on 12 images" in printed
    assert "its logits differ by at most 0.0e+00" in printed
    stored = json.loads((output / "settings.json").read_text())
    assert stored["augmentation"] == str(recipe().SMALL_IMAGES)
    assert stored["optimization"] == str(recipe().FROM_SCRATCH)
    with (output / "history.csv").open() as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2"]

    kept = ["history.csv", "checkpoints/last.keras"]
    before = [(output / name).read_bytes() for name in kept]
    (output / "model.tflite").unlink()
    printed = run(script, **changed)
    assert "going on after epoch 2 of 2" in printed
    assert "epoch 2/2" not in printed
    assert [(output / name).read_bytes() for name in kept] == before
    assert json.loads((output / "metrics.json").read_text()) == metrics
    assert (output / "model.tflite").exists()
