"""Training over devices and processes: the arithmetic of one device."""

import json
import math
import os
import re
import signal
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import distributed_worker
import jobs
import keras
import numpy as np
import pytest
from conftest import BACKEND, one_line, slow, tiny_model
from expert_products import WIDTH
from keras import losses
from on_split_cpu import printed_by

import widenet_keras
from widenet_keras.data.process_rows import Part
from widenet_keras.distribution import distribute
from widenet_keras.distribution.lost_worker import plain_loss_of_worker
from widenet_keras.distribution.single import Distribution, Replicated
from widenet_keras.training.replicas import check_per_image

WORKER = Path(__file__).with_name("distributed_worker.py")
RECIPE = Path(__file__).parents[1] / "recipes" / "cifar10.py"
SPLIT = WORKER.with_name("on_split_cpu.py")


def trained(folder, devices, experts, processes, **more):
    """Trains in a job; returns weights and facts of every process."""
    folder.mkdir()
    command = [WORKER, json.dumps({**told(folder, "auto", devices, experts), **more})]
    job = jobs.start(command, processes, devices)
    for process in job:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors[-3000:]
    return [outcome(folder, rank) for rank in range(processes)]


def told(folder, mode, devices=1, experts=1):
    """Returns what a worker is told."""
    return {
        "output": str(folder),
        "mode": mode,
        "devices": devices,
        "expert_devices": experts,
    }


def outcome(folder, rank):
    """Returns weights and facts that a worker has left."""
    facts = json.loads((folder / f"{rank}.json").read_text())
    return dict(np.load(folder / f"{rank}.npz")), facts


@pytest.fixture(scope="module")
def one_device(tmp_path_factory):
    """Weights and facts of a run on one device, this process's."""
    folder = tmp_path_factory.mktemp("one")
    distributed_worker.main(told(folder, "none"))
    return outcome(folder, 0)


# (devices of a process, devices that share the experts, processes)
JOBS = {
    "tensorflow": [(2, 1, 1), slow(4, 1, 1), slow(1, 1, 2)],
    "jax": [
        slow(4, 2, 1),
        slow(4, 1, 1),
        slow(4, 4, 1),
        slow(1, 1, 2),
        slow(2, 1, 2),
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
    runs = trained(tmp_path / "run", devices, experts, processes)
    for own_weights, own_facts in runs:
        assert own_weights.keys() == weights.keys()
        for name, weight in weights.items():
            # The logits of all test images, in their order, add up what may differ by
            # 1e-6 in every weight.
            atol = 1e-5 if name == "logits" else 1e-6
            np.testing.assert_allclose(own_weights[name], weight, rtol=0, atol=atol)
        for name in facts.keys() - {"description", "shards"}:
            np.testing.assert_allclose(
                own_facts[name], facts[name], rtol=1e-5, err_msg=name
            )
        assert str(devices * processes) in own_facts["description"] or experts > 1
        shards = own_facts.get("shards", {})
        # Two kernels, two biases; each with two moments and an average.
        assert len(shards) == (16 if BACKEND == "jax" else 0)
        assert set(shards.values()) <= {1 / experts}


# Of all that is drawn by nothing, with a class token.
PIECES = (
    {"kind": "lora", "rank": 2, "on": ["value", "hidden", "outer", "router"]},
    {"kind": "bottleneck", "rank": 3},
    {"kind": "prompt", "count": 2, "dropout": 0.0},
    {"kind": "key_value_prompt", "count": 2},
    {"kind": "head_mix"},
    {"kind": "residual_scale"},
    {"kind": "projection"},
)
# Step 1 draws an order of the tokens, the same on all devices.
GROUPS = {"class_token": False, "attention_groups": 3}


@pytest.mark.slow
def test_devices_train_pieces_as_one_device_does(tmp_path):
    """What a step keeps for itself is whole on every device, that of experts too."""
    alone = tmp_path / "alone"
    alone.mkdir()
    more = {"fields": {"pieces": PIECES, **GROUPS}}
    distributed_worker.main({**told(alone, "none"), **more})
    weights, _ = outcome(alone, 0)
    first = JOBS[BACKEND][0]
    devices, experts, processes = getattr(first, "values", first)
    for own, facts in trained(tmp_path / "run", devices, experts, processes, **more):
        assert own.keys() == weights.keys()
        for name, weight in weights.items():
            # What is rounded in a weight is many times that in a logit.
            atol = 1e-4 if name == "logits" else 1e-5
            np.testing.assert_allclose(own[name], weight, rtol=0, atol=atol)
        shards = facts.get("shards", {})
        parts = {part for path, part in shards.items() if "lora" in path}
        assert parts == ({1.0} if BACKEND == "jax" else set())


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
def test_a_device_computes_its_part_of_the_expert_products(tmp_path):
    whole = products(tmp_path / "1", 1, "none", "1")
    # Two kernels at two steps, forward and twice backward.
    assert whole > 0
    for experts in ("1", "2", "4"):
        part = products(tmp_path / f"4_{experts}", 4, "auto", experts)
        assert part * 4 == whole, experts


def small_run(folder, epochs=3, experts=1):
    """Writes data and returns the recipe's command for a run."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (411, 12, 12, 3)).astype("uint8")
    labels = np.arange(411) % 5
    parts = {"x_train": images[11:], "y_train": labels[11:]}
    parts |= {"x_test": images[:11], "y_test": labels[:11]}
    np.savez(folder / "data.npz", **parts)
    fields = "image_size 12 patch_size 4 width 12 steps 2 heads 3 expert_dim 14"
    flags = f"--epochs {epochs} --batch-size 8 --ema 0.9 --expert-devices {experts} "
    flags += f"--optimizer lamb --mixup 0.5 --fields {fields}"
    paths = ["--data", folder / "data.npz", "--output", folder / "run"]
    return [RECIPE, *paths, *flags.split()]


def ends_well(job):
    """Waits for the processes of a job; returns what the first one printed."""
    printed = []
    for process in job:
        output, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors[-3000:]
        printed.append(output)
    return printed[0]


def wait_for(path, job):
    """Waits until a file is there and no process of a job has ended."""
    patience = time.time() + 240
    while not path.exists():
        assert time.time() < patience
        assert [process.poll() for process in job] == [None] * len(job)
        time.sleep(0.1)


ALL_JOBS = [getattr(job, "values", job) for job in JOBS[BACKEND]]


@pytest.mark.slow
@pytest.mark.parametrize(("devices", "experts", "processes"), ALL_JOBS)
def test_a_job_that_was_killed_goes_on_as_if_not(tmp_path, devices, experts, processes):
    folders = [tmp_path / name for name in ("whole", "killed")]
    for folder in folders:
        folder.mkdir()
    whole, killed = (small_run(folder, 2, experts) for folder in folders)
    if BACKEND == "tensorflow" and devices > 1:
        whole, killed = ([SPLIT, devices, *command] for command in (whole, killed))
    ends_well(jobs.start(whole, processes, devices))
    job = jobs.start(killed, processes, devices)
    wait_for(folders[1] / "run" / "checkpoints" / "last.keras", job)
    for process in job:
        process.send_signal(signal.SIGKILL)
    for process in job:
        process.communicate()
    printed = ends_well(jobs.start(killed, processes, devices))
    assert "going on after epoch 1 of 2" in printed
    models = [
        widenet_keras.load_model(folder / "run" / "model.keras", compile=False)
        for folder in folders
    ]
    for one, other in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)
    assert (folders[1] / "run" / "checkpoints" / "best.keras").exists()


@pytest.mark.slow
def test_torchrun_ends_all_with_a_line(tmp_path):
    module = ["-m", "torch.distributed.run", "--nproc-per-node", 2]
    [launcher] = jobs.start([*module, *small_run(tmp_path)])
    wait_for(tmp_path / "run" / "checkpoints" / "last.keras", [launcher])
    children = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text()
    os.kill(int(children.split()[1]), signal.SIGKILL)
    _, errors = launcher.communicate(timeout=120)
    assert launcher.returncode != 0
    assert "one of the 2 workers was lost" in errors.lower(), errors[-3000:]


def lose_a_worker(tmp_path, victim):
    """Kills one of two workers, of which the other tells; returns their command."""
    command = small_run(tmp_path, epochs=2)
    job = jobs.start(command, processes=2)
    wait_for(tmp_path / "run" / "checkpoints" / "last.keras", job)
    # A moment later the second epoch, of fifty batches, is on its way.
    time.sleep(0.3)
    job[victim].send_signal(signal.SIGKILL)
    survivor = job[1 - victim]
    # Promised in the README.
    _, errors = survivor.communicate(timeout=120)
    assert survivor.returncode != 0
    # The service of JAX may end a process before Python hears of it.
    lines = ["One of the 2 workers was lost", "another task died"]
    assert any(line in errors for line in lines), errors[-3000:]
    job[victim].communicate()
    return command


@pytest.mark.slow
@pytest.mark.parametrize("victim", [1, 0])
def test_a_lost_worker_ends_the_others_and_one_goes_on_alone(tmp_path, victim):
    [alone] = jobs.start(lose_a_worker(tmp_path, victim))
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
        of_one = '{"cluster": {"worker": "host1:2000"}}'
        for text in ("[]", "null", '{"cluster": null}', '{"task": null}', of_one):
            monkeypatch.setenv("TF_CONFIG", text)
            with pytest.raises(ValueError, match="names no cluster") as error:
                distribute("auto")
            one_line(error)


def test_a_number_of_processes_that_is_none_is_named(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "many")
    with pytest.raises(ValueError, match="WORLD_SIZE='many' is no whole") as error:
        distribute("auto")
    one_line(error)
    # As `export WORLD_SIZE=$SLURM_NTASKS` outside of Slurm.
    monkeypatch.setenv("WORLD_SIZE", "")
    assert distribute("auto").processes == 1


def test_experts_over_a_part_of_a_process_are_refused():
    from widenet_keras.distribution.devices_jax import DeviceDistribution

    def part(processes, rank=0):
        """Of rows of devices, each by the process that it is of."""
        rows = [[SimpleNamespace(process_index=p) for p in row] for row in processes]
        mesh = SimpleNamespace(backend_mesh=SimpleNamespace(devices=np.array(rows)))
        return DeviceDistribution._own_part(SimpleNamespace(mesh=mesh, rank=rank))

    assert part([[0, 0], [0, 0], [1, 1], [1, 1]], 1) == Part(1, 2)
    assert part([[0, 0, 1, 1], [2, 2, 3, 3]], 3) == Part(1, 2)
    with pytest.raises(ValueError, match="expert_devices=4 would take") as error:
        part([[0, 0, 0, 0], [0, 0, 1, 1], [1, 1, 1, 1]])
    one_line(error)


def test_other_processes_write_aside_whatever_the_folder_is_called():
    for name in ("..", "runs/..", "runs/a"):
        distribution = Replicated("of a job", 2, 1, 2)
        folder = distribution.own_folder(name)
        assert folder.parent.name.startswith("widenet-")
        assert folder.name not in ("", "..")
        distribution._aside.cleanup()


def test_a_batch_that_the_devices_cannot_share_is_refused_in_one_line():
    distribution = distribute("none")
    distribution.replicas = 3
    with pytest.raises(ValueError, match="a multiple of 3") as error:
        distribution.check_batch_size(8)
    one_line(error)


@pytest.mark.parametrize(
    ("task", "rank"),
    [
        ({"type": "chief", "index": 0}, 0),
        ({"type": "worker", "index": 0}, 1),
        ({"type": "worker", "index": 1}, 2),
        ({"type": "worker", "index": "1"}, 2),
        ({"type": "worker", "index": 2}, None),
        ({"type": "chief", "index": 1}, None),
        ({"type": "worker", "index": "first"}, None),
        ({"type": "evaluator", "index": 0}, None),
        ({}, None),
    ],
)
def test_a_chief_comes_before_the_workers(monkeypatch, task, rank):
    from widenet_keras.distribution import strategies_tensorflow

    cluster = {"chief": ["a:1"], "worker": ["b:1", "c:1"]}
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": cluster, "task": task}))
    if rank is None:
        with pytest.raises(ValueError, match="TF_CONFIG has task=") as error:
            strategies_tensorflow._rank()
        one_line(error)
    else:
        assert strategies_tensorflow._rank() == rank


def test_processes_that_see_other_folders_are_told_in_one_line(monkeypatch):
    distribution = Distribution()
    distribution.check_agreed("run", [3, 12])
    distribution.processes = 2
    monkeypatch.setattr(distribution, "everywhere", lambda own: np.array([own, [0, 0]]))
    distribution.check_agreed("run", [0, 0])
    with pytest.raises(ValueError, match="the same folder") as error:
        distribution.check_agreed("run", [3, 12])
    one_line(error)


def test_losses_that_replicas_cannot_share_are_refused_in_one_line(monkeypatch):
    step = sys.modules[type(tiny_model()).train_step.__module__]
    model, loss = tiny_model(), keras.losses.CategoricalCrossentropy
    model.compile("sgd", loss(from_logits=True, reduction="sum"))
    if BACKEND == "torch":
        monkeypatch.setattr(step.processes_torch, "processes", lambda: 2)
    else:
        monkeypatch.setattr(step, "_replicas", lambda: 2.0)
    for reduction in ("sum", "mean_with_sample_weight", None):
        with pytest.raises(ValueError, match="reduction=") as error:
            model.compile("sgd", loss(from_logits=True, reduction=reduction))
        one_line(error)
        with pytest.raises(ValueError, match="reduction="):
            model.compile("sgd", [loss(from_logits=True, reduction=reduction)])
    model.compile("sgd")


def test_a_loss_of_one_number_is_refused_by_replicas():
    """Keras divides only what it has made the mean of itself."""
    labels, logits = np.array([1, 2]), np.zeros((2, 5), "float32")

    class One(losses.Loss):
        def call(self, labels, logits):
            return keras.ops.mean(logits)

    for loss in (One(), [One().call], {"a": One()}):
        with pytest.raises(ValueError, match="one number for a batch") as error:
            check_per_image(loss, labels, logits)
        one_line(error)
    check_per_image(losses.SparseCategoricalCrossentropy(), labels, logits)
    check_per_image("mse", labels, logits)
    many = np.array([[0, 1, 0, 1, 1]] * 2)
    check_per_image(lambda y, p: keras.ops.mean((y - p) ** 2, -1), many, logits)


ON_DEVICES = """
from on_split_cpu import split_cpu

split_cpu(2)
import keras
import numpy as np
import tensorflow as tf
from conftest import numpy, tiny_images, tiny_model

images, labels = tiny_images(4), np.array([0, 1, 2, 3])
with tf.distribute.MirroredStrategy().scope():
    model = tiny_model("vit", steps=1)
    scaled = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1))
    model.compile(scaled)
before = [numpy(weight) for weight in model.weights]
# What overflows is in the second device's half alone.
weights = np.array([1.0, 1.0, 1.0, 3e38], "float32")
model.fit(images, labels, batch_size=4, shuffle=False, sample_weight=weights, verbose=0)
same = [np.array_equal(numpy(w), old) for w, old in zip(model.weights, before)]
print(all(same), numpy(scaled.dynamic_scale) / scaled.initial_scale)
model.fit(images, labels, batch_size=4, verbose=0)
same = [np.array_equal(numpy(w), old) for w, old in zip(model.weights, before)]
print(any(same), all(np.isfinite(numpy(weight)).all() for weight in model.weights))
with model.distribute_strategy.scope():
    model.compile("sgd", lambda labels, logits: keras.ops.mean(logits))
try:
    model.fit(images, labels, verbose=0)
except ValueError as error:
    print(error)
"""


@pytest.mark.slow
def test_what_overflows_on_one_device_is_left_out_on_all():
    first, second, refused = printed_by(ON_DEVICES).splitlines()
    assert first == "True 0.5"
    assert second == "False True"
    assert refused.startswith("compile: the loss gives one number for a batch")


def test_scaled_gradients_are_not_clipped_apart(monkeypatch):
    from widenet_keras.training import step_tensorflow

    monkeypatch.setattr(step_tensorflow, "_replicas", lambda: 2.0)
    model = tiny_model(dtype="mixed_float16")
    model.compile(keras.optimizers.SGD(0.1))
    optimizer = keras.optimizers.SGD(0.1, global_clipnorm=1.0)
    for given in (optimizer, keras.optimizers.LossScaleOptimizer(optimizer)):
        with pytest.raises(ValueError, match="mixed_bfloat16") as error:
            model.compile(given)
        one_line(error)
    optimizer = keras.optimizers.SGD(0.1, clipnorm=1.0, loss_scale_factor=8.0)
    with pytest.raises(ValueError, match="loss_scale_factor"):
        tiny_model().compile(optimizer)


def test_a_keras_that_shares_torch_batches_is_not_joined(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(keras.src.backend, "distribution_lib", object())
    with pytest.raises(ValueError, match="share them twice") as error:
        distribute("auto")
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
