"""Which distribution a job gets: by name, or by what is there."""

import os
from typing import Literal

import keras

from widenet_keras.distribution.lost_worker import plain_loss_of_worker
from widenet_keras.distribution.single import Distribution, processes_told
from widenet_keras.utils.checks import check_choice, check_integer

MODES = {
    "tensorflow": ("mirrored", "multi_worker", "tpu"),
    "jax": ("devices",),
    "torch": ("processes",),
}
OWNER = "distribute"


def distribute(
    mode: Literal[
        "auto", "none", "mirrored", "multi_worker", "tpu", "devices", "processes"
    ] = "auto",
    expert_devices: int = 1,
) -> Distribution:
    """Says where a model trains. Call it before anything else touches a device.

    "auto" takes all devices of this process, or all processes of the job:

    - TensorFlow: several workers if TF_CONFIG names them, a TPU if TPU_NAME does,
      else all GPUs of this host, or its CPUs;
    - JAX: all devices of all processes; several processes if
      KERAS_DISTRIBUTION_NUM_PROCESSES and its like (see
      `keras.distribution.initialize`) say so, and on a TPU slice;
    - torch: the processes that torchrun started.

    The batch size is always that of all devices together.

    Args:
        mode: "auto", "none", or a name: "mirrored", "multi_worker" or "tpu"
            (TensorFlow), "devices" (JAX), "processes" (torch).
        expert_devices: JAX: devices that share one bank of experts, each holding an
            equal part of it; 1 gives every device all experts.

    Returns:
        A `Distribution`.

    Raises:
        ValueError: If the backend has no such mode, or it does not fit the devices.
    """
    backend = keras.backend.backend()
    names = MODES[backend]
    check_choice(OWNER, f"mode on {backend}", mode, ("auto", "none", *names))
    check_integer(OWNER, "expert_devices", expert_devices, 1)
    if expert_devices > 1 and (backend != "jax" or mode == "none"):
        raise ValueError(
            f"{OWNER}: expert_devices={expert_devices} needs the JAX backend and its "
            f"devices, and this is {backend} with mode={mode!r}; use expert_devices=1, "
            "or KERAS_BACKEND=jax."
        )
    if mode == "none":
        return Distribution()
    # Workers that never come are told as those that go.
    with plain_loss_of_worker(_workers_named()):
        return _distribution(mode, expert_devices)


def _workers_named():
    """Returns how many workers the environment says a job has; None for several."""
    if "TF_CONFIG" in os.environ:
        return None
    names = ("WORLD_SIZE", "KERAS_DISTRIBUTION_NUM_PROCESSES")
    return max(map(processes_told, names))


def _distribution(mode, expert_devices):
    if keras.backend.backend() == "tensorflow":
        from widenet_keras.distribution.strategies_tensorflow import strategy_of

        return strategy_of(mode)
    elif keras.backend.backend() == "jax":
        from widenet_keras.distribution.devices_jax import devices_of

        return devices_of(mode, expert_devices)
    else:
        from widenet_keras.distribution.job_torch import job_of

        return job_of(mode)
