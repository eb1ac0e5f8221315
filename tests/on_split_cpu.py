"""Runs a script where TensorFlow sees one CPU as several devices.

python on_split_cpu.py DEVICES SCRIPT [ARGUMENT ...]
"""

import runpy
import sys
from pathlib import Path


def split_cpu(devices):
    """Makes TensorFlow see one CPU as several devices."""
    import tensorflow as tf

    [cpu] = tf.config.list_physical_devices("CPU")
    parts = [tf.config.LogicalDeviceConfiguration()] * devices
    tf.config.set_logical_device_configuration(cpu, parts)


if __name__ == "__main__":
    split_cpu(int(sys.argv[1]))
    del sys.argv[:2]
    sys.path[0] = str(Path(sys.argv[0]).parent)
    runpy.run_path(sys.argv[0], run_name="__main__")
