"""Training over devices and processes: the arithmetic of one device."""

import json
import math
import re
import signal
import time
from pathlib import Path

import jobs
import numpy as np
import pytest
from conftest import BACKEND, one_line
from expert_products import WIDTH

from widenet_keras.distribution import distribute
from widenet_keras.distribution.lost_worker import plain_loss_of_worker

WORKER = Path(__file__).with_name("distributed_worker.py")
RECIPE = Path(__file__).parents[1] / "recipes" / "cifar10.py"


def trained(folder, mode="auto", devices=1, experts=1, processes=1):
    """Trains in a job; returns weights and facts of every process."""
    folder.mkdir()
    told = {
        "output": str(folder),
        "mode": mode,
        "devices": devices,
        "expert_devices": experts,
    }
    job = jobs.start([WORKER, json.dumps(told)], processes, devices)
    for process in job:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors[-3000:]
    return [
        (
            dict(np.load(folder / f"{rank}.npz")),
            json.loads((folder / f"{rank}.json").read_text()),
        )
        for rank in range(processes)
    ]


@pytest.fixture(scope="module")
def one_device(tmp_path_factory):
    """Weights and facts of a run on one device."""
    [run] = trained(tmp_path_factory.mktemp("one") / "run", "none")
    return run


def slow(*values):
    return pytest.param(*values, marks=pytest.mark.slow)


# (devices of a process, devices that share the experts, processes)
JOBS = {
    "tensorflow": [(4, 1, 1), slow(2, 1, 1), slow(1, 1, 2)],
    "jax": [
        (4, 2, 1),
        slow(4, 1, 1),
        slow(4, 4, 1),
        slow(1, 1, 2),
        slow(2, 2, 2),
        slow(2, 4, 2),
    ],
    "torch": [(1, 1, 2), slow(1, 1, 4)],
}


@pytest.mark.parametrize(("devices", "experts", "processes"), JOBS[BACKEND])
def test_devices_train_what_one_device_does(
    tmp_path, one_device, devices, experts, processes
):
    weights, facts = one_device
    runs = trained(
        tmp_path / "run", devices=devices, experts=experts, processes=processes
    )
    for own_weights, own_facts in runs:
        assert own_weights.keys() == weights.keys()
        for name, weight in weights.items():
            # Weights, and at last the logits of all test images in their order.
            np.testing.assert_allclose(own_weights[name], weight, rtol=0, atol=1e-6)
        for name in facts.keys() - {"description", "shards"}:
            np.testing.assert_allclose(
                own_facts[name], facts[name], rtol=1e-5, err_msg=name
            )
        assert str(devices * processes) in own_facts["description"] or experts > 1
        shards = own_facts.get("shards", {})
        # Two kernels, two biases; each with two moments and an average.
        assert len(shards) == (16 if BACKEND == "jax" else 0)
        assert set(shards.values()) <= {1 / experts}


SHAPE = re.compile(r"^\s*(?:ROOT )?(%[\w.-]+) = \w+\[([\d,]*)\]", re.MULTILINE)
DOT = re.compile(
    r"= \w+\[([\d,]*)\]\S* dot\((%[\w.-]+), .*?lhs_contracting_dims={([\d,]*)}"
)


def products(folder, devices, *arguments):
    """Returns the multiplications by experts in the train step of one device."""
    flags = f"--xla_dump_to={folder} --xla_dump_hlo_module_re=.*train_step.*"
    script = WORKER.with_name("expert_products.py")
    [process] = jobs.start([script, *arguments], devices=devices, xla_flags=flags)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors[-3000:]
    [program] = folder.glob("*after_optimizations.txt")
    text = program.read_text()
    shapes = {name: numbers(shape) for name, shape in SHAPE.findall(text)}
    total = 0
    for result, left, contracted in DOT.findall(text):
        axes = [*numbers(result), *shapes[left]]
        if WIDTH in axes:
            inner = [shapes[left][axis] for axis in numbers(contracted)]
            total += math.prod(numbers(result)) * math.prod(inner)
    return total


def numbers(text):
    return [int(number) for number in text.split(",") if number]


@pytest.mark.slow
@pytest.mark.skipif(BACKEND != "jax", reason="the program is XLA's, of JAX")
def test_a_device_computes_its_part_of_the_expert_products(tmp_path):
    whole = products(tmp_path / "1", 1, "none", "1")
    # Two kernels at two steps, forward and twice backward.
    assert whole > 0
    for experts in ("1", "2", "4"):
        part = products(tmp_path / f"4_{experts}", 4, "auto", experts)
        assert part * 4 == whole, experts


def small_run(folder):
    """Writes data and returns the recipe's command for a run of three epochs."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (811, 12, 12, 3)).astype("uint8")
    labels = np.arange(811) % 5
    parts = {"x_train": images[11:], "y_train": labels[11:]}
    parts |= {"x_test": images[:11], "y_test": labels[:11]}
    np.savez(folder / "data.npz", **parts)
    fields = "image_size 12 patch_size 4 width 12 steps 2 heads 3 expert_dim 14"
    flags = f"--epochs 3 --batch-size 8 --ema 0.9 --fields {fields}"
    paths = ["--data", folder / "data.npz", "--output", folder / "run"]
    return [RECIPE, *paths, *flags.split()]


@pytest.mark.parametrize(
    "victim", [1, slow(0)] if BACKEND == "torch" else [slow(1), slow(0)]
)
def test_a_lost_worker_ends_the_others_and_one_goes_on_alone(tmp_path, victim):
    command = small_run(tmp_path)
    job = jobs.start(command, processes=2)
    saved = tmp_path / "run" / "checkpoints" / "last.keras"
    patience = time.time() + 240
    while not saved.exists():
        assert time.time() < patience
        assert [process.poll() for process in job] == [None, None]
        time.sleep(0.1)
    # A moment later the second epoch is on its way.
    time.sleep(1)
    job[victim].send_signal(signal.SIGKILL)
    survivor = job[1 - victim]
    # Promised in the README.
    _, errors = survivor.communicate(timeout=120)
    assert survivor.returncode != 0
    # The service of JAX may end a process before Python hears of it.
    lines = ["One of the 2 workers was lost", "another task died"]
    assert any(line in errors for line in lines), errors[-3000:]
    job[victim].communicate()

    [alone] = jobs.start(command)
    output, errors = alone.communicate(timeout=240)
    assert alone.returncode == 0, errors[-3000:]
    assert "going on after epoch" in output
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert np.isfinite(metrics["loss"])


def test_one_device_is_what_is_there():
    distribution = distribute("none")
    assert (distribution.replicas, distribution.is_chief) == (1, True)
    assert distribution.description == "one device"


def test_modes_and_devices_that_are_not_there_are_refused_in_one_line():
    with pytest.raises(ValueError, match="'auto', 'none'") as error:
        distribute("everywhere")
    one_line(error)
    with pytest.raises(ValueError, match="expert_devices=0") as error:
        distribute("auto", expert_devices=0)
    one_line(error)
    # JAX has one device here, the others cannot share experts.
    with pytest.raises(ValueError, match="expert_devices=3") as error:
        distribute("auto", expert_devices=3)
    one_line(error)


@pytest.mark.skipif(BACKEND == "jax", reason="JAX names no job")
def test_jobs_that_nobody_started_are_refused_in_one_line(monkeypatch):
    mode = {"tensorflow": "multi_worker", "torch": "processes"}[BACKEND]
    with pytest.raises(ValueError, match=r"TF_CONFIG|torchrun") as error:
        distribute(mode)
    one_line(error)
    if BACKEND == "tensorflow":
        monkeypatch.setenv("TF_CONFIG", "{")
        with pytest.raises(ValueError, match="TF_CONFIG is no JSON") as error:
            distribute("auto")
        one_line(error)


def test_a_batch_that_the_devices_cannot_share_is_refused_in_one_line():
    distribution = distribute("none")
    distribution.replicas = 3
    with pytest.raises(ValueError, match="a multiple of 3") as error:
        distribution.check_batch_size(8)
    one_line(error)


def test_the_loss_of_a_worker_is_one_line_and_other_errors_stay():
    with (
        pytest.raises(ValueError, match="One of the 2 workers was lost") as error,
        plain_loss_of_worker(2),
    ):
        raise RuntimeError("all_reduce: Connection closed by peer [1.2.3.4]\nat ...")
    one_line(error)
    with pytest.raises(RuntimeError, match="mistake"), plain_loss_of_worker(2):
        raise RuntimeError("a mistake")
    with pytest.raises(RuntimeError, match="closed"), plain_loss_of_worker(1):
        raise RuntimeError("Connection closed by peer")
