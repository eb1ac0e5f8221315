"""Runs a script where TensorFlow sees one CPU as several devices.

python on_split_cpu.py DEVICES SCRIPT [ARGUMENT ...]
"""

import runpy
import subprocess
import sys
from pathlib import Path


def split_cpu(devices):
    """Makes TensorFlow see one CPU as several devices."""
    import tensorflow as tf

    [cpu] = tf.config.list_physical_devices("CPU")
    parts = [tf.config.LogicalDeviceConfiguration()] * devices
    tf.config.set_logical_device_configuration(cpu, parts)


def printed_by(script):
    """Returns what a script prints in a process of its own, where it splits the CPU."""
    command = [sys.executable, "-c", script]
    here = Path(__file__).parent
    done = subprocess.run(command, cwd=here, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


if __name__ == "__main__":
    split_cpu(int(sys.argv[1]))
    del sys.argv[:2]
    sys.path[0] = str(Path(sys.argv[0]).parent)
    runpy.run_path(sys.argv[0], run_name="__main__")
