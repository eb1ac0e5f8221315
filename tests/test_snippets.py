"""Every block of Python and every command of README and docs/ runs as it stands."""

import re
import runpy
import shlex
import sys

import numpy as np
import pytest
from conftest import numpy
from page_inputs import make_inputs, save_slow_vit, take_inputs
from pages import PAGES, PROGRAM, README, ROOT, blocks, lines_of_shell, name_of, table

from widenet_keras.data import SOURCES
from widenet_keras.layers.pieces import KINDS
from widenet_keras.models import PRESETS
from widenet_keras.routing.engines import ENGINES
from widenet_keras.routing.router import ROUTERS

pytest.importorskip("tyro")
pytest.importorskip("sklearn")

from widenet_keras.cli import main as widenet

EXPORT = "widenet_keras.export("
BLOCKS = [
    pytest.param(
        code,
        id=f"{name_of(page)}-{place}",
        # TensorFlow writes them, in a process of its own on another backend.
        marks=[pytest.mark.slow] if page != README and EXPORT in code else [],
    )
    for page in PAGES
    for place, code in enumerate(blocks(page, "python"))
]
# What is not run here as it stands, by its beginning, and why.
NOT_RUN = {
    "python -m pip install": "installs; .ci/run does so in a fresh environment",
    "KERAS_BACKEND=jax python -m pytest": "runs tests",
    "tfds build": "fetches a data set",
    "python recipes/imagenet.py": "needs ImageNet; test_recipes.py trains on a little",
    "KERAS_BACKEND=tensorflow python recipes/study.py": "takes hours; test_study.py",
    "python benchmarks/": "needs a quiet machine for minutes; test_benchmarks.py",
}
# Minutes, or a process of TensorFlow.
SLOW = ("python recipes/", "widenet export", "widenet measure")
# A file that a command takes and another command writes.
WRITES = {"table.json": "widenet measure vit.keras --device cpu --output table.json"}


def lines():
    """Returns the commands of the pages that are run, each once."""
    found = [line for page in PAGES for line in lines_of_shell(page)]
    found += [line for row in table("| verb | what it does |") for line in code(row[3])]
    return [
        line for line in dict.fromkeys(found) if not line.startswith(tuple(NOT_RUN))
    ]


def is_slow(line):
    """Whether a command takes more than some seconds."""
    return line.startswith(SLOW) or any(name in line for name in WRITES)


def code(cell):
    """Returns what a cell has in code."""
    return [part for part in cell.split("`")[1::2] if part]


@pytest.fixture
def tables():
    """Takes rows that a block adds to the tables of the package away again."""
    before = [
        (each, dict(each)) for each in (PRESETS, ENGINES, ROUTERS, KINDS, SOURCES)
    ]
    yield
    for each, rows in before:
        each.clear()
        each.update(rows)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder of what pages take for given."""
    folder = tmp_path_factory.mktemp("inputs")
    make_inputs(folder)
    return folder


def check_engine(made):
    images = np.random.default_rng(0).normal(size=(3, 8, 8, 1)).astype("float32")
    wanted = made["model"].adapted(engine="sorted")(images)
    np.testing.assert_allclose(numpy(made["model"](images)), numpy(wanted), atol=1e-5)


def check_piece(made):
    images = np.random.default_rng(0).normal(size=(3, 8, 8, 1)).astype("float32")
    wanted = numpy(made["vit"](images))
    np.testing.assert_allclose(numpy(made["again"](images)), wanted, atol=1e-5)
    assert made["again"].config.pieces == (made["StepBias"](),)


def check_training(made):
    assert len(made["model"].history.history["loss"]) == 3
    assert made["optimizer"].use_ema


def check_start(made):
    assert made["wide"].config.sharing == "all"
    assert made["relaxed"].config.num_unique_blocks == 1
    assert made["plain"].config == made["vit"].config


def check_tuning(made):
    assert made["tuned"].frozen == ()
    assert made["prompts"].frozen == made["backbone"]
    assert made["shipped"].config.pieces == ()


def check_structures(made):
    assert made["plain"].config.ring_size is None
    assert made["groups"].config.groups_of_steps.counts == (4, 1, 4)
    assert [piece.kind for piece in made["mixed"].config.pieces] == ["head_mix"]


# What some blocks leave, by words that only they have.
LEFT = {
    "EveryExpert": check_engine,
    "StepBias": check_piece,
    "validation_data=validation": check_training,
    "tie(vit)  # a shared": check_start,
    "merge(adapters)": check_tuning,
    "HeadMix()": check_structures,
}


@pytest.mark.parametrize("code", BLOCKS)
def test_a_block(code, made, tables, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # Strings of the block that name something there.
    take_inputs(re.findall(r'"([\w./]+)"', code), made, tmp_path)
    names = {"__name__": "__main__"}
    exec(compile(code, "page", "exec"), names)
    for word, check in LEFT.items():
        if word in code:
            check(names)


def test_every_check_is_of_one_block():
    for word in LEFT:
        assert sum(word in block.values[0] for block in BLOCKS) == 1, word


def run(line):
    """Runs a command in this process, as its program would."""
    words = [word for word in shlex.split(line) if "=" not in word.split("/")[0]]
    [place] = [i for i, word in enumerate(words) if PROGRAM.fullmatch(word)]
    program, *words = words[place:]
    if program == "widenet":
        widenet.main(words)
        return
    before = sys.argv
    sys.argv = [program, *words]
    try:
        runpy.run_path(str(ROOT / program), run_name="__main__")
    finally:
        sys.argv = before


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(
            line,
            id=line[:70],
            marks=[pytest.mark.slow] if is_slow(line) else [],
        )
        for line in lines()
    ],
)
def test_a_command(line, made, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = shlex.split(line)
    take_inputs(words, made, tmp_path)
    for name, command in WRITES.items():
        if name in words and command != line and "--table" in words:
            save_slow_vit(tmp_path / "vit.keras")
            run(command)
    there = {path for path in tmp_path.rglob("*") if path.is_file()}
    run(line)
    written = {path for path in tmp_path.rglob("*") if path.is_file()} - there
    silent = "predict" in words or "--dry-run" in words
    assert written or silent, line


def test_what_is_not_run_is_on_a_page():
    found = [line for page in PAGES for line in lines_of_shell(page)]
    for start in NOT_RUN:
        assert any(line.startswith(start) for line in found), start
    assert len(lines()) > 25
