"""The benchmarks run: small sizes, rows with the promised fields, a picture."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import compile_time
import exports
import gpu
import harness
import host_time
import input_pipeline
import moe_layer
import pruned
import pytest
import timed
import train_step
from conftest import BACKEND, slow_on
from PIL import Image

import widenet_keras
from widenet_keras import forward_flops, preset_config

FOLDER = Path(__file__).parents[1] / "benchmarks"
SMALL_LAYER = (
    "--tokens 300 --width 8 --expert-dim 12 --repeats 1 --engines sorted all_experts"
)
SMALL_STEP = "--presets widenet_digits vit_digits --batch 2 --repeats 1"
SMALL_COMPILE = (
    "--preset widenet_digits --depths 4 8 --batch 2 --repeats 1 --scans auto"
)


PICTURES = sorted((FOLDER / "results").glob("*.png"))


def made_of(picture):
    """Returns which rows a picture says it was made of."""
    with Image.open(picture) as image:
        assert image.format == "PNG"
        return image.text["Source"]


def digest(rows):
    return "sha256:" + hashlib.sha256(rows.read_bytes()).hexdigest()


@pytest.mark.parametrize("picture", PICTURES, ids=lambda picture: picture.stem)
def test_pictures_are_of_the_rows_beside_them(picture):
    assert made_of(picture) == digest(picture.with_suffix(".json"))


def test_a_picture_is_drawn_again_of_its_rows(tmp_path, monkeypatch):
    def draw(module, source, *more):
        picture = tmp_path / "again.png"
        words = ["benchmark", "--draw", str(source), "--png", str(picture), *more]
        monkeypatch.setattr(sys, "argv", words)
        module.main()
        return picture

    for module in (moe_layer, compile_time, exports, input_pipeline, train_step):
        rows = FOLDER / "results" / f"{module.__name__}.json"
        assert made_of(draw(module, rows)) == digest(rows)
    with pytest.raises(SystemExit, match=r"host_time.py has no picture"):
        draw(host_time, rows)
    monkeypatch.setattr(sys, "argv", ["benchmark", "--draw", str(rows)])
    with pytest.raises(SystemExit, match="needs --png FILE"):
        moe_layer.main()


def run(script, options, tmp_path):
    """Runs a benchmark as a user does; returns its rows and what it printed."""
    rows, picture = tmp_path / "rows.json", tmp_path / "picture.png"
    command = [sys.executable, str(FOLDER / script), *options.split()]
    command += ["--backends", BACKEND, "--json", str(rows), "--png", str(picture)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ
    )
    assert done.returncode == 0, done.stderr
    assert made_of(picture) == digest(rows)
    return json.loads(rows.read_text()), done.stdout


def test_the_layer_from_the_command_line(tmp_path):
    rows, printed = run("moe_layer.py", SMALL_LAYER, tmp_path)
    found = {(row["mode"], row["engine"]) for row in rows}
    engines = ("floor", "sorted", "all_experts")
    assert found == {(m, e) for m in ("inference", "training") for e in engines}
    for row in rows:
        assert row["benchmark"] == "moe_layer"
        assert row["backend"] == BACKEND
        assert row["tokens"] == 394  # 300 tokens are two images of 197
        assert row["milliseconds"] > 0
        if row["engine"] == "floor":
            assert row["ratio_to_floor"] == 1.0
    assert "ratio_to_floor" in printed
    assert "CPU cores" in printed


@pytest.fixture
def arguments(monkeypatch):
    """Returns the parsed options of a benchmark, whose measure is replaced."""

    def parse(module, options):
        found = []
        monkeypatch.setattr(
            harness, "run", lambda path, parsed, *_, **__: found.append(parsed)
        )
        monkeypatch.setattr(sys, "argv", ["benchmark", *options.split()])
        module.main()
        return found[0]

    return parse


def test_train_step(arguments, monkeypatch, capsys):
    parsed = arguments(train_step, SMALL_STEP)
    monkeypatch.setattr(train_step, "_in_a_process_of_its_own", lambda *_: 2.0)
    rows = list(train_step.measure(parsed))
    times = {row["model"]: row for row in rows if row["mode"] == "time"}
    wide, vit = times["widenet_digits"], times["vit_digits"]
    # The first model is what the others are measured against.
    assert wide["time_over_flop_ratio"] == wide["flop_ratio"] == 1.0
    # T = 17, D = 64, 3 steps; only the feed-forward parts differ: K = 2 experts
    # of 128 and a router over 4, against one MLP of 128, in 2 * 3 passes.
    more = 17 * 64 * (4 * 128 + 2 * 4) * 3 * 3 * 2 / 1e9
    whole = 6 * forward_flops(preset_config("widenet_digits")) / 1e9
    assert vit["flop_ratio"] == pytest.approx(1 - more / whole, abs=6e-4)
    memory = [row for row in rows if row["mode"] == "memory"]
    assert {row["remat"] for row in memory} == {"none", "full"}
    assert all(row["memory_ratio"] == 1.0 for row in memory)
    train_step.present([{**row, "backend": BACKEND} for row in rows], parsed)
    assert "time_over_flop_ratio" in capsys.readouterr().out
    parsed.memory_of = ("widenet_digits", "full")
    assert 0.05 < train_step.peak_memory(parsed) < 30


@slow_on("tensorflow")
def test_compile_time(arguments, capsys):
    parsed = arguments(compile_time, SMALL_COMPILE)
    rows = [{**row, "backend": BACKEND} for row in compile_time.measure(parsed)]
    compile_time.present(rows, parsed)
    assert "ratio_to_12" in capsys.readouterr().out
    operations = {(row["scan"], row["depth"]): row["operations"] for row in rows}
    if BACKEND == "torch":
        assert set(operations.values()) == {None}
    else:
        assert operations["auto", 8] < 1.05 * operations["auto", 4]


@pytest.mark.slow
def test_pruned(arguments, capsys, monkeypatch):
    options = "--presets vit_digits --repeats 1 --batch 2 --target 0.7 --threads 1"
    parsed = arguments(pruned, f"{options} --multiples 4 8")
    monkeypatch.setattr(pruned, "LEAST_SECONDS", 0.0)
    rows = [{**row, "backend": BACKEND} for row in pruned.measure(parsed)]
    pruned.present(rows, parsed)
    assert "over_flops" in capsys.readouterr().out
    runs = ["keras", "litert"] if BACKEND == "tensorflow" else ["keras"]
    found = [(row["run"], row["multiple"]) for row in rows]
    assert found == [(run, multiple) for run in runs for multiple in (4, 8)]
    for row in rows:
        assert 0.6 < row["flop_ratio"] <= 0.7
        ratio = row["milliseconds_pruned"] / row["milliseconds_whole"]
        assert row["time_ratio"] == pytest.approx(ratio, abs=0.05)


@pytest.mark.slow
def test_exports(arguments, capsys):
    options = "--presets vit_digits widenet_digits --formats keras --repeats 1"
    parsed = arguments(exports, f"{options} --timed none")
    rows = [{**row, "backend": BACKEND} for row in exports.measure(parsed)]
    exports.present(rows, parsed)
    assert "over_executed" in capsys.readouterr().out
    assert len(exports.draw(rows).axes) == 2
    files = [row for row in rows if row["mode"] == "file"]
    # Keras has no calibrated ranges.
    assert len(files) == 2 * 3
    times = {row["engine"]: row for row in rows if row["mode"] == "latency"}
    listed, everything = times["listed"], times["all_experts"]
    # T = 17, D = 64, F = 128, 3 steps: K = 2 experts, E = 4 of them, or K and one
    # row of each. The ViT has one MLP of 128.
    config = widenet_keras.preset_config("widenet_digits")
    chosen, run = exports.flops(config, "all_experts")
    assert run - chosen == 3 * 2 * 4 * 17 * 64 * 128
    chosen, run = exports.flops(config, "listed")
    assert run - chosen == 3 * 4 * 4 * 64 * 128
    assert everything["executed_ratio"] > listed["executed_ratio"]
    assert everything["chosen_ratio"] == listed["chosen_ratio"]


def test_a_process_has_the_device_that_its_rows_name(monkeypatch, arguments, capsys):
    monkeypatch.setattr(harness.subprocess, "Popen", lambda command, env: env)
    hidden = {"CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu"}
    assert hidden.items() <= harness._child("", "jax", "", "cpu").items()
    assert hidden["JAX_PLATFORMS"] != harness._child("", "jax", "", "gpu").get(
        "JAX_PLATFORMS"
    )
    for module in (exports, host_time, input_pipeline):
        with pytest.raises(SystemExit):
            arguments(module, "--device gpu")
        assert "invalid choice: 'gpu'" in capsys.readouterr().err


def test_gpu_form_asks_for_a_gpu_in_one_line():
    with pytest.raises(SystemExit, match=f"{BACKEND} sees no GPU here; install"):
        timed.require_device("gpu")


def test_gpu_form_reports_the_large_product(arguments, monkeypatch):
    # All but the device itself: bfloat16 and the product beside the layers.
    monkeypatch.setattr(timed, "require_device", lambda device: None)
    monkeypatch.setattr(timed, "LARGE", 32)
    engines = {"floor", "sorted", "all_experts", "matmul"}
    if BACKEND == "torch":
        # Compiling is tested where layers are; here it would take long.
        monkeypatch.setattr("torch.compile", lambda function, **_: function)
        compiled = {"floor", "sorted", "all_experts"}
        engines |= {engine + moe_layer.COMPILED for engine in compiled}
    parsed = arguments(moe_layer, f"{SMALL_LAYER} --device gpu --dtype mixed_bfloat16")
    rows = list(moe_layer.measure(parsed))
    assert {row["engine"] for row in rows} == engines
    assert all(row["tflops"] > 0 and row["dtype"] == "mixed_bfloat16" for row in rows)


def test_operations_of_an_inference_on_torch():
    """What Python costs there goes with their number, which no machine changes."""
    cases = host_time.cases_of(host_time.SMALL, {"ViT": host_time.VIT, "WideNet": {}})
    count = {
        name: host_time.aten(case)
        for name, case in cases.items()
        if "inference" in name
    }
    assert count["ViT, inference"] <= 1250
    # With one `addmm` for each layer of each expert.
    assert count["WideNet, inference"] <= 3000


def test_host_time(arguments, monkeypatch, capsys):
    sizes = {**host_time.SMALL, "steps": 2}
    for name in ("SMALL", "WIDE"):
        monkeypatch.setattr(host_time, name, sizes)
    monkeypatch.setattr(host_time, "RUNS", 1)
    parsed = arguments(host_time, "--repeats 1")
    rows = list(host_time.measure(parsed))
    assert {row["table"] for row in rows} == {"python", "arithmetic", "optimizers"}
    assert all(row["milliseconds"] > 0 and row["over_plain"] > 0 for row in rows)
    host_time.present([{**row, "backend": BACKEND} for row in rows], parsed)
    assert "over_plain" in capsys.readouterr().out


def test_one_command_for_a_gpu(arguments, capsys):
    """All of it on a CPU, at toy size."""
    options = "--device cpu --batch 2 --repeats 1 --side 32 --tokens 197 --dropouts 0.1"
    options += " --dtype float32 --presets vit_digits --parts vit_digits plain none"
    parsed = arguments(gpu, options)
    assert parsed.backends == ["jax", "torch"]
    rows = [{**row, "backend": BACKEND} for row in gpu.measure(parsed)]
    found = [(row["model"], row["mode"]) for row in rows]
    assert found == [
        (model, mode)
        for model in ("vit_digits", "plain ViT")
        for mode in ("training", "inference")
    ]
    assert all(row["images_per_second"] > 0 for row in rows)
    assert rows[0]["first_step_seconds"] is not None
    gpu.present(rows, parsed)
    told = capsys.readouterr()
    assert "share_of_product" in told.out
    # What fails is told, and does not take the others along.
    assert "none failed" in told.err
