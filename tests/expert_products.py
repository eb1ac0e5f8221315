"""Takes one train step on JAX, so that XLA writes down the program of a device."""

import sys

import keras
import numpy as np
from conftest import tiny_config, tiny_images

import widenet_keras
from widenet_keras.distribution import distribute

# Hidden width of the experts; no other axis has this size.
WIDTH = 26

if __name__ == "__main__":
    mode, expert_devices = sys.argv[1], int(sys.argv[2])
    with distribute(mode, expert_devices).scope():
        config = tiny_config(expert_dim=WIDTH, engine="one_hot", scan="never")
        model = widenet_keras.ImageClassifier(config, seed=0)
        model.compile(keras.optimizers.SGD())
        model.fit(tiny_images(8), np.arange(8) % 5, batch_size=8, verbose=0)
