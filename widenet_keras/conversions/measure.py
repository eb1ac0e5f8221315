"""How long parts of a model take on this machine, by their sizes."""

import itertools
import os
import platform
import random
import time
from importlib.metadata import version
from typing import NamedTuple

import keras
import numpy as np

from widenet_keras.conversions.latency import (
    AXES,
    Grid,
    LatencyTable,
    facts_of,
    sizes_of,
)
from widenet_keras.conversions.remade import begun, check_model
from widenet_keras.data.progress import Progress
from widenet_keras.layers.sharing import PART_PLANS
from widenet_keras.models.block_sizes import BlockSize
from widenet_keras.models.weights import check_plain
from widenet_keras.models.widenet import WideNet
from widenet_keras.utils.checks import check_integer
from widenet_keras.utils.devices import device_named
from widenet_keras.version import __version__

_OWNER = "measure"
# Steps of the models that are timed; one of twice as many tells what is no step.
_STEPS = 4
# How many sizes of an axis are timed, and of what they are multiples; the smallest is
# that, or an eighth of the largest.
_POINTS = {"heads": 3, "key_dim": 3, "value_dim": 3, "experts": 3, "hidden": 6}
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


def measure_latency(
    model: WideNet, device: str | None = None, batch_size: int = 1, repeats: int = 15
) -> LatencyTable:
    """Returns how long inference takes here, by the sizes of the parts of a model.

    Models of a few steps alike are timed with `predict_on_batch`: attention of several
    sizes beside the smallest feed-forward part, and the other way round. What one takes
    beyond the model of smallest parts is added to what such parts take. Models take
    turns, so that a slow moment of the machine hits all of them.

    Args:
        model: A `WideNet` or `ImageClassifier`. Its weights do not matter, and pieces
            of its steps are left out.
        device: Such as "cpu" or "gpu:1"; None for the one that Keras takes by itself.
        batch_size: Images per forward pass.
        repeats: Timings of each size, of which the median counts.

    Raises:
        ValueError: If there is no such device, or the model is quantised.
    """
    check_model(_OWNER, model)
    check_plain(_OWNER, model)
    check_integer(_OWNER, "batch_size", batch_size, 1)
    check_integer(_OWNER, "repeats", repeats, 1)
    device, config = device_named(_OWNER, device), model.config
    axes = {
        kind: [_points(config, *axis) for axis in zip(AXES[kind], sizes, strict=True)]
        for kind, sizes in sizes_of(config).items()
    }
    heads, key_dim, value_dim = (axis[0] for axis in axes["attention"])
    hidden = axes["dense"][0][0] if "dense" in axes else _MULTIPLES["hidden"]
    base = _Alike(BlockSize(heads, key_dim, value_dim, hidden))
    groups = {
        kind: [base, *(_alike(kind, s, base) for s in itertools.product(*axes[kind]))]
        for kind in axes
    }
    count = 3 + sum(map(len, groups.values()))
    progress = Progress(f"timings of {count} sizes", count * (repeats + 1))
    images = np.random.default_rng(0).uniform(-1, 1, (batch_size, *config.image_shape))

    def timed(configs):
        made = (begun(model, each) for each in configs)
        return _times(list(made), images.astype("float32"), repeats, progress)

    with keras.device(device):
        around = [base, base._replace(steps=2 * _STEPS)]
        around = [_config(config, each) for each in around]
        around = timed([*around, config.replace(pieces=())])
        found = {
            kind: timed(_config(config, each) for each in group)
            for kind, group in groups.items()
        }
    short, long, whole = np.median(around, axis=1)
    # Of a step of two smallest parts each is given half.
    least = max(0.0, (long - short) / _STEPS / 2)
    grids = {}
    for kind, times in found.items():
        first, *others = np.median(times, axis=1)
        parts = np.maximum(least + (np.array(others) - first) / _STEPS, 0.0)
        grids[kind] = Grid.of(axes[kind], parts.reshape([*map(len, axes[kind])]))
    facts = {
        "device": device,
        "batch_size": batch_size,
        "repeats": repeats,
        "spread": round(_spread([around, *found.values()]), 3),
    }
    return LatencyTable(
        {"name": model.name, "dtype": model.dtype_policy.name, **facts_of(config)},
        {**_machine(), **facts},
        rest=max(0.0, short - 2 * least * _STEPS),
        whole=whole,
        grids=grids,
    )


def _points(config, name, largest):
    """Returns the sizes of an axis that are timed, increasing.

    Args:
        config: `WideNetConfig`.
        name: Of the axis.
        largest: The last one.
    """
    multiple, least = _MULTIPLES.get(name, 1), largest // 8
    if name == "experts":
        least = config.top_k
        multiple = least if config.router == "grouped_top_1" else 1
    even = np.linspace(max(least, multiple), largest, _POINTS[name])
    points = {int(multiple * round(size / multiple)) for size in even} | {largest}
    return tuple(sorted(size for size in points if 0 < size <= largest))


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

    Steps read blocks, and parts, of others where those of the model do.

    Args:
        config: `WideNetConfig` of the model.
        alike: `_Alike`.
    """
    shared = config.num_unique_blocks < config.steps
    sharing = config.sharing if config.sharing in PART_PLANS else "none"
    return config.replace(
        steps=alike.steps,
        sharing="all" if shared else sharing,
        unique_blocks=None,
        block_sizes=(alike.size,) * (1 if shared else alike.steps),
        step_widths=None,
        nested_widths=(),
        nested_probabilities=None,
        moe_blocks="none" if alike.experts is None else "all",
        num_experts=alike.experts or config.num_experts,
        pieces=(),
    )


def _times(models, images, repeats, progress):
    """Returns milliseconds of models, (models, repeats).

    Args:
        models: List of models.
        images: What they are given.
        repeats: How often.
        progress: `Progress` of all timings.
    """
    for model in models:
        # The first time it is compiled.
        model.predict_on_batch(images)
        progress.add()
    times = np.zeros((len(models), repeats))
    for turn in range(repeats):
        for place in random.Random(turn).sample(range(len(models)), len(models)):
            start = time.perf_counter()
            models[place].predict_on_batch(images)
            times[place, turn] = 1e3 * (time.perf_counter() - start)
            progress.add()
    return times


def _spread(times):
    """Returns by which part of their median the middle half of timings differ.

    Args:
        times: List of arrays (models, repeats).
    """
    low, middle, high = np.percentile(np.concatenate(times), (25, 50, 75), axis=1)
    return float(np.median((high - low) / middle))


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
