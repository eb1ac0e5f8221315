"""How long parts of a model take on this machine, by their sizes."""

import itertools
import math
import os
import platform
import random
import time
from importlib.metadata import version
from typing import NamedTuple

import keras
import numpy as np

from widenet_keras.conversions.latency import AXES, LatencyTable, facts_of, sizes_of
from widenet_keras.conversions.latency_grid import Grid
from widenet_keras.conversions.remade import begun, check_model
from widenet_keras.layers.sharing import PART_PLANS
from widenet_keras.models.block_sizes import BlockSize
from widenet_keras.models.memory_use import parameter_count
from widenet_keras.models.weights import check_kernels, check_plain
from widenet_keras.models.widenet import WideNet
from widenet_keras.utils.checks import check_integer
from widenet_keras.utils.devices import device_named
from widenet_keras.utils.memory import MAX_MEMORY, check_taken
from widenet_keras.utils.progress import Progress
from widenet_keras.utils.quiet import quiet
from widenet_keras.version import __version__

_OWNER = "measure"
# Steps of the models that are timed; one of twice as many tells what is no step.
_STEPS = 4
_FLOAT = 4  # bytes of a weight
# How many sizes of each axis are timed, in the order of `AXES`.
_POINTS = {"attention": (3, 3, 3), "dense": (6,), "routed": (3, 4)}
# Of what they are multiples; the smallest is that, or an eighth of the largest.
_MULTIPLES = {"key_dim": 8, "value_dim": 8, "hidden": 8}


class _Alike(NamedTuple):
    """A model to be timed, whose steps are all alike.

    Attributes:
        size: `BlockSize` of its blocks.
        experts: How many a block has; None for a dense one.
        steps: How many steps it has.
    """

    size: BlockSize
    experts: int | None = None
    steps: int = _STEPS


class _FromNumPy(keras.initializers.Initializer):
    """Small numbers without a program for every shape, which takes JAX a second."""

    def __init__(self, **kwargs):
        self.random = np.random.default_rng(0)

    def __call__(self, shape, dtype=None, **kwargs):
        value = self.random.uniform(-0.05, 0.05, shape)
        return keras.ops.convert_to_tensor(value, dtype)


# Weights that nobody looks at.
_INITIALIZERS = {"glorot_uniform": _FromNumPy, "RandomNormal": _FromNumPy}


def measure_latency(
    model: WideNet,
    device: str | None = None,
    batch_size: int = 1,
    repeats: int = 25,
    max_memory: int = MAX_MEMORY,
) -> LatencyTable:
    """Returns how long inference takes here, by the sizes of the parts of a model.

    Models of a few steps alike are timed with `predict_on_batch`: attention of several
    sizes beside the smallest feed-forward part, and the other way round. What one takes
    beyond the model of smallest parts is added to what such parts take. Models take
    turns, so that a slow moment of the machine hits all of them; so all are in memory
    at once.

    Args:
        model: A `WideNet` or `ImageClassifier`. Its weights do not matter, and pieces
            of its steps are left out.
        device: Such as "cpu" or "gpu:1"; None for the one that Keras takes by itself.
        batch_size: Images per forward pass.
        repeats: Timings of each size, of which the median counts.
        max_memory: Bytes that the weights of all models that are timed may take.

    Raises:
        ValueError: If there is no such device, the model is quantised, or the models
            would take too much memory.
    """
    check_model(_OWNER, model)
    check_plain(_OWNER, model)
    check_kernels(_OWNER, model)
    check_integer(_OWNER, "batch_size", batch_size, 1)
    check_integer(_OWNER, "repeats", repeats, 1)
    device, config = device_named(_OWNER, device), model.config
    axes = {kind: _axes(config, kind, of) for kind, of in sizes_of(config).items()}
    base = _Alike(BlockSize(*(axis[0] for axis in axes["attention"]), hidden=8))
    alike = [base, base._replace(steps=2 * _STEPS)]
    for kind, of in axes.items():
        alike += [_alike(kind, sizes, base) for sizes in itertools.product(*of)]
    configs = [config.replace(pieces=()), *(_config(config, each) for each in alike)]
    weights = sum(parameter_count(each.to_dict()) for each in configs)
    what = f"the weights of {len(configs)} models to be timed"
    check_taken(_OWNER, what, _FLOAT * weights, max_memory)
    shape = batch_size, *config.image_shape
    images = np.random.default_rng(0).uniform(-1, 1, shape).astype("float32")
    with keras.device(device):
        times = _times(model, configs, images, repeats)
    whole, short, twice, *others = np.median(times, axis=1)
    # Of a step of two smallest parts each is given half.
    least = max(0.0, (twice - short) / _STEPS / 2)
    parts = iter(np.maximum(least + (np.array(others) - short) / _STEPS, 0.0))
    grids = {}
    for kind, of in axes.items():
        shape = [*map(len, of)]
        mine = list(itertools.islice(parts, math.prod(shape)))
        grids[kind] = Grid.of(of, np.reshape(mine, shape))
    measured = {
        **_machine(),
        "device": device,
        "batch_size": batch_size,
        "repeats": repeats,
        "spread": _spread(times),
    }
    return LatencyTable(
        {"name": model.name, "dtype": model.dtype_policy.name, **facts_of(config)},
        measured,
        rest=max(0.0, float(short) - 2 * least * _STEPS),
        whole=float(whole),
        grids=grids,
    )


def _axes(config, kind, sizes):
    """Returns which sizes of a part are timed, a tuple of them for each axis.

    Args:
        config: `WideNetConfig` of the model.
        kind: One of `AXES`.
        sizes: Pair of the smallest that can be and the largest for each axis.
    """
    found = []
    for name, count, (least, largest) in zip(
        AXES[kind], _POINTS[kind], sizes, strict=True
    ):
        multiple = _MULTIPLES.get(name, 1)
        if name == "experts" and config.router == "grouped_top_1":
            multiple = config.top_k
        even = np.linspace(max(least, multiple, largest // 8), largest, count)
        some = {int(multiple * round(size / multiple)) for size in even} | {largest}
        found.append(tuple(sorted(size for size in some if 0 < size <= largest)))
    return found


def _alike(kind, sizes, base):
    """Returns the `_Alike` of one size of a part, the other part as small as can be.

    Args:
        kind: One of `AXES`.
        sizes: One for each of its axes.
        base: `_Alike` of smallest parts.
    """
    if kind == "attention":
        return base._replace(size=BlockSize(*sizes, base.size.hidden))
    *experts, hidden = sizes
    size = base.size._replace(hidden=hidden)
    return base._replace(size=size, experts=experts[0] if experts else None)


def _config(config, alike):
    """Returns the `WideNetConfig` of an `_Alike`.

    Its steps share a block, or parts, where those of the model do.

    Args:
        config: `WideNetConfig` of the model.
        alike: `_Alike`.
    """
    sharing = config.sharing if config.sharing in PART_PLANS else "none"
    if config.num_unique_blocks < config.steps:
        sharing = "all"
    return config.replace(
        steps=alike.steps,
        sharing=sharing,
        unique_blocks=None,
        block_sizes=(alike.size,) * (1 if sharing == "all" else alike.steps),
        step_widths=None,
        nested_widths=(),
        nested_probabilities=None,
        moe_blocks="none" if alike.experts is None else "all",
        num_experts=alike.experts or config.num_experts,
        pieces=(),
        attention_groups=1,
    )


def _times(model, configs, images, repeats):
    """Returns the milliseconds of models like one, (configurations, repeats).

    Args:
        model: That one.
        configs: List of `WideNetConfig`s.
        images: What each is given.
        repeats: How often.
    """
    count, models = len(configs), []
    progress = Progress(f"timings of {count} sizes", count * (repeats + 1))
    for config in configs:
        with keras.saving.custom_object_scope(_INITIALIZERS), quiet():
            models.append(begun(model, config))
            # The first time it is compiled.
            models[-1].predict_on_batch(images)
        progress.add()
    times = np.zeros((count, repeats))
    for turn in range(repeats):
        for place in random.Random(turn).sample(range(count), count):
            start = time.perf_counter()
            models[place].predict_on_batch(images)
            times[place, turn] = 1e3 * (time.perf_counter() - start)
            progress.add()
    return times


def _spread(times):
    """Returns by which part of their median the middle half of timings differ.

    Args:
        times: (models, repeats).
    """
    low, middle, high = np.percentile(times, (25, 50, 75), axis=1)
    return round(float(np.median((high - low) / middle)), 3)


def _machine():
    """Returns what times depend on besides the model: versions and the machine."""
    backend = keras.backend.backend()
    return {
        "widenet_keras": __version__,
        "keras": keras.version(),
        "backend": backend,
        "backend_version": version(backend),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
    }
