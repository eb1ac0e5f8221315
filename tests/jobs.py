"""Starts processes that train together, as a user's launcher would."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

from conftest import BACKEND

HERE = Path(__file__).parent


def environments(processes, devices=1, xla_flags=""):
    """Returns the environment of each process of a job on this host."""
    path = os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH")]))
    common = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    devices = f"--xla_force_host_platform_device_count={devices}"
    common["XLA_FLAGS"] = f"{devices} {xla_flags}"
    if processes == 1:
        return [common]
    port, other = free_ports(2)
    workers = [f"localhost:{port}", f"localhost:{other}"]
    told = {
        "tensorflow": lambda rank: {
            "TF_CONFIG": json.dumps(
                {
                    "cluster": {"worker": workers},
                    "task": {"type": "worker", "index": rank},
                }
            )
        },
        "jax": lambda rank: {
            "KERAS_DISTRIBUTION_JOB_ADDRESSES": workers[0],
            "KERAS_DISTRIBUTION_NUM_PROCESSES": str(processes),
            "KERAS_DISTRIBUTION_PROCESS_ID": str(rank),
        },
        # What torchrun tells its processes; it would end all of them with one.
        "torch": lambda rank: {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(processes),
            "MASTER_ADDR": "localhost",
            "MASTER_PORT": str(port),
        },
    }[BACKEND]
    return [{**common, **told(rank)} for rank in range(processes)]


def start(command, processes=1, devices=1, xla_flags=""):
    """Starts a Python command in every process of a job; returns the processes."""
    return [
        subprocess.Popen(
            [sys.executable, *map(str, command)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for environment in environments(processes, devices, xla_flags)
    ]


def free_ports(count):
    """Returns numbers of ports that nothing listens at."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("localhost", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports
