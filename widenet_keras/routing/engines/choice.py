"""Which dispatch engine serves a call: the table, and what "auto" means where."""

import keras

from widenet_keras.routing.engines.all_experts import AllExperts
from widenet_keras.routing.engines.engine import Engine
from widenet_keras.routing.engines.one_hot import OneHot
from widenet_keras.routing.engines.slots import Slots
from widenet_keras.routing.engines.slots_or_all import SlotsOrAll
from widenet_keras.routing.engines.sorted import Sorted
from widenet_keras.utils.checks import check_choice
from widenet_keras.utils.execution import (
    auto_engine,
    has_kernels,
    shapes_are_static,
)

ENGINES = {
    "all_experts": AllExperts,
    "slots": Slots,
    "slots_or_all": SlotsOrAll,
    "one_hot": OneHot,
    "sorted": Sorted,
}

# What exports ask for with `execution`; no user has a reason to.
EXPORTED = "listed"


def check_engine(owner: str, engine: str) -> None:
    """Raises `ValueError` unless there is such an engine.

    Args:
        owner: Name that starts the message.
        engine: "auto", or a name of `ENGINES`.
    """
    check_choice(owner, "engine", engine, ("auto", *ENGINES))


def engine_named(name: str, has_capacity: bool) -> type[Engine]:
    """Returns the class of an engine.

    Args:
        name: A name of `ENGINES`, or "auto".
        has_capacity: Whether experts take a limited number of tokens, as in
            training.
    """
    if name == "auto":
        name = auto_engine() or _best(has_capacity)
    if name == EXPORTED:
        from widenet_keras.routing.engines.listed_tensorflow import Listed

        return Listed
    return ENGINES[name]


def _best(has_capacity):
    """Returns the name of the engine that is fastest here.

    "sorted" has the least arithmetic and wins wherever the sizes of its runs
    may be dynamic, or can be made so at little cost: TensorFlow outside XLA,
    torch, JAX on CPU and TPU (`benchmarks/moe_layer.py`). Under XLA with static
    shapes, "slots" does the work of C experts' worth. Devices that share a
    batch need "one_hot", whose products stay on the device of their image.
    Without a capacity the static engines would need room for every token at every
    expert, which is what "all_experts" computes without moving them; JAX, whose batches
    are static too, has room for a little more than the fair share before it does. The
    grouped products of `tokamax` need neither, and are what TPUs take where it is
    installed; on an H200 they took 1.5 times as long
    (`benchmarks/results/moe_layer_tokamax.json`).
    """
    backend = keras.backend.backend()
    if backend == "torch":
        return "sorted"
    device = _device()
    if keras.distribution.distribution() is not None or (
        backend == "tensorflow" and device == "tpu"
    ):
        return "one_hot" if has_capacity else "all_experts"
    if backend == "tensorflow" and shapes_are_static():
        return "slots" if has_capacity else "all_experts"
    if backend == "jax" and device != "cpu" and not has_capacity:
        return "sorted" if device == "tpu" and has_kernels() else "slots_or_all"
    # jax.lax.ragged_dot is a masked product of all experts on GPUs (JAX 0.10).
    return "slots" if backend == "jax" and device == "gpu" else "sorted"


def _device():
    """Returns "cpu", "gpu" or "tpu", the kind of the backend's devices."""
    return keras.distribution.list_devices()[0].split(":")[0]
