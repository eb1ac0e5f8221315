"""The Colab notebook: clean on disk, and it runs from top to bottom."""

import csv
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

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


def installed_from(monkeypatch, folder, **names):
    """Returns what the first cell has pip install where the package is missing."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.delenv("WIDENET_PACKAGE", raising=False)
    for name, value in names.items():
        monkeypatch.setenv(f"WIDENET_{name}", value)
    [cell] = [cell for cell in cells("code") if cell["id"] == "install"]
    found = {}
    exec(python(cell), found)
    return found["PACKAGE"]


def test_the_package_is_installed_from_its_checkout(monkeypatch, tmp_path):
    root = str(RECIPES.parent)
    assert installed_from(monkeypatch, RECIPES) == root
    assert installed_from(monkeypatch, root) == root
    # As in Colab, whose working folder is /content.
    beside = tmp_path / "widenet_keras"
    beside.symlink_to(root)
    assert installed_from(monkeypatch, tmp_path) == str(beside)
    assert installed_from(monkeypatch, tmp_path, PACKAGE="git+x") == "git+x"


def test_a_notebook_without_a_checkout_says_so(monkeypatch, tmp_path):
    with pytest.raises(SystemExit, match="clone the project, or set PACKAGE"):
        installed_from(monkeypatch, tmp_path)


def settings(monkeypatch, platform="cpu", **environment):
    """Returns what the settings' cell sets on a device."""
    for name in [name for name in os.environ if name.startswith("WIDENET_")]:
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(f"WIDENET_{name}", value)
    [cell] = [cell for cell in cells("code") if cell["id"] == "settings"]
    names = {"os": os, "device": SimpleNamespace(platform=platform)}
    exec(python(cell), names)
    return names


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
    # What IPython defines for every notebook.
    code = ["display = print", *map(python, cells("code"))]
    script.write_text("\n\n".join(code))
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
    assert "epoch 2/2" in printed
    names = ["model.keras", "model.tflite", "saved_model/saved_model.pb"]
    names += ["curves.png", "routing.png", "load/epoch_0002.png"]
    names += ["checkpoints/best.keras"]
    for name in names:
        assert (output / name).stat().st_size > 0
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
    assert "epoch " not in printed
    assert [(output / name).read_bytes() for name in kept] == before
    assert json.loads((output / "metrics.json").read_text()) == metrics
    assert (output / "model.tflite").exists()
