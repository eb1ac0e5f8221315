"""Training on several replicas: the arithmetic of one device."""

import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from conftest import BACKEND

pytestmark = pytest.mark.skipif(
    BACKEND != "tensorflow", reason="tf.distribute is TensorFlow's"
)

SCRIPT = textwrap.dedent(
    """
    import sys
    sys.path[:0] = [sys.argv[1]]
    import keras, numpy as np, tensorflow as tf
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * 2
    )
    from conftest import tiny_config, tiny_images
    import widenet_keras
    from widenet_keras.training.optimizers import SGD

    def trained():
        keras.utils.set_random_seed(0)
        model = widenet_keras.ImageClassifier(tiny_config("vit", dropout=0.0), seed=0)
        model.compile(SGD(1.0, global_clipnorm=0.1))
        data = tf.data.Dataset.from_tensors((tiny_images(4), np.array([0, 1, 2, 2])))
        model.fit(data, verbose=0)
        return [np.asarray(w) for w in model.trainable_variables], model

    with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
        two, _ = trained()
    one, model = trained()
    keras.utils.set_random_seed(0)
    start = widenet_keras.ImageClassifier(model.config, seed=0).trainable_variables
    moved = sum(float(((a - np.asarray(b)) ** 2).sum()) for a, b in zip(one, start))
    print("RESULT", max(abs(a - b).max() for a, b in zip(one, two)), moved ** 0.5)
    """
)


def test_gradients_are_clipped_after_they_are_summed_over_replicas():
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, os.path.dirname(__file__)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    [line] = [x for x in run.stdout.splitlines() if x.startswith("RESULT")]
    difference, moved = map(float, line.split()[1:])
    # A learning rate of 1 moves the weights by the clipped norm.
    np.testing.assert_allclose(moved, 0.1, rtol=1e-4)
    assert difference < 1e-7
