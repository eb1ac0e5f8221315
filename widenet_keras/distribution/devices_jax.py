"""JAX: all devices of all processes as one mesh, by `keras.distribution`."""

import contextlib
import os

import jax
import keras
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding, PartitionSpec

from widenet_keras.data.process_rows import Part
from widenet_keras.distribution.single import Distribution, Replicated, processes_told
from widenet_keras.utils.roles import said_role

BATCH, EXPERT = "batch", "expert"


class ExpertParallel(keras.distribution.ModelParallel):
    """Experts over one axis of a mesh, batches over the other.

    Args:
        mesh: `keras.distribution.DeviceMesh` with the axes "batch" and "expert".
    """

    def __init__(self, mesh):
        super().__init__(
            layout_map=keras.distribution.LayoutMap(mesh),
            batch_dim_name=BATCH,
            auto_shard_dataset=False,
        )

    def get_variable_layout(self, variable):
        """Returns the layout of a variable.

        Raises:
            ValueError: If the experts do not divide the devices.
        """
        role = said_role(variable)
        if role is None or role.stacked != "experts":
            return super().get_variable_layout(variable)
        devices = self.device_mesh.shape[1]
        if variable.shape[0] % devices:
            raise ValueError(
                f"{variable.shape[0]} experts do not split evenly over expert_devices="
                f"{devices}; use a number of devices that divides the experts."
            )
        axes = (EXPERT, *(None for _ in variable.shape[1:]))
        return keras.distribution.TensorLayout(axes, self.device_mesh)


class DeviceDistribution(Replicated):
    """A model over all devices of all JAX processes.

    Args:
        expert_devices: Devices that share a bank of experts.
    """

    def __init__(self, expert_devices):
        devices = keras.distribution.list_devices()
        shape = (len(devices) // expert_devices, expert_devices)
        what = f"{len(devices)} devices"
        if expert_devices > 1:
            what = f"{shape[0]} x {shape[1]} devices (batch x experts)"
        processes, rank = jax.process_count(), jax.process_index()
        if processes > 1:
            what += f" in {processes} processes, this is process {rank}"
        super().__init__(what, shape[0], rank, processes)
        self.mesh = keras.distribution.DeviceMesh(
            shape, (BATCH, EXPERT), np.array(devices)
        )
        if expert_devices > 1:
            self.distribution = ExpertParallel(self.mesh)
        else:
            self.distribution = keras.distribution.DataParallel(
                devices=devices, auto_shard_dataset=False
            )
        self.part = self._own_part()

    def _own_part(self):
        """Returns which rows of a batch the devices of this process hold."""
        mesh = self.mesh.backend_mesh.devices
        rows = {}
        for row, devices in enumerate(mesh):
            for process in {device.process_index for device in devices}:
                rows.setdefault(process, []).append(row)
        parts = {tuple(own) for own in rows.values()}
        if len({len(own) for own in parts}) > 1 or sum(map(len, parts)) != len(mesh):
            raise ValueError(
                f"distribute: expert_devices={mesh.shape[1]} would take devices of "
                "some processes and a part of those of others; use a divisor, or a "
                "multiple, of the devices of a process."
            )
        own = rows[self.rank]
        return Part(own[0] // len(own), len(mesh) // len(own))

    def _scope(self):
        return self.distribution.scope()

    @contextlib.contextmanager
    def logical_weights(self, model):
        """Context in which every process has all of every weight."""
        everywhere = NamedSharding(self.mesh.backend_mesh, PartitionSpec())
        gather = jax.jit(lambda values: values, out_shardings=everywhere)
        variables = [*model.variables, *(model.optimizer or model).variables]
        lent = {
            id(variable): variable
            for variable in variables
            if not _is_here(variable.value)
        }.values()
        own = [variable.value for variable in lent]
        # In one program, and waited for: gathers that are on their way at the same
        # time may meet the wrong ones of another process (gloo hangs or crashes).
        whole = jax.block_until_ready(gather(jax.block_until_ready(own)))
        for variable, value in zip(lent, whole, strict=True):
            variable._value = value
        try:
            yield
        finally:
            for variable, value in zip(lent, own, strict=True):
                variable._value = value

    @contextlib.contextmanager
    def apart(self):
        """Context in which this process alone makes or saves something.

        Keras places every tensor on all devices of a distribution, which takes all
        processes.
        """
        before = keras.distribution.distribution()
        keras.distribution.set_distribution(None)
        try:
            yield
        finally:
            keras.distribution.set_distribution(before)

    def everywhere(self, numbers):
        """Returns the numbers of every process, (processes, n)."""
        found = multihost_utils.process_allgather(np.array(numbers))
        return np.reshape(found, (self.processes, len(numbers)))


def _is_here(value):
    """Whether this process can read all of an array."""
    return value.is_fully_addressable or value.is_fully_replicated


def devices_of(mode, expert_devices):
    """Returns the distribution for a mode of `distribute`."""
    if _has_processes() and not jax.distributed.is_initialized():
        keras.distribution.initialize()
    count = len(keras.distribution.list_devices())
    if count % expert_devices:
        raise ValueError(
            f"distribute: expert_devices={expert_devices} does not divide the {count} "
            f"devices; use a divisor of {count}."
        )
    if mode == "auto" and count == 1:
        return Distribution()
    return DeviceDistribution(expert_devices)


def _has_processes():
    """Whether this is one of several processes."""
    if processes_told("KERAS_DISTRIBUTION_NUM_PROCESSES") > 1:
        return True
    # On a TPU slice of several hosts JAX finds the others by itself.
    return len(os.environ.get("TPU_WORKER_HOSTNAMES", "").split(",")) > 1
