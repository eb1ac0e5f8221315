"""Trains five steps over a distribution and saves what came out.

What it is told is a dict, or JSON where it is a process of its own: `output`, and of
`distribute` the `mode` and the `expert_devices`; `devices` asks TensorFlow for logical
ones, and `fields` are further ones of the config.
"""

import json
import sys

import keras
import numpy as np
from conftest import BACKEND, optimize_graphs, tiny_config
from on_split_cpu import split_cpu

import widenet_keras
from widenet_keras.data import (
    Augmentation,
    evaluation_batches,
    open_source,
    training_batches,
)
from widenet_keras.distribution import distribute
from widenet_keras.optimizers.optimizers import AdamW

BATCH, BATCHES = 8, 5
# 9 test images leave 1 for the last batch: fewer than the devices.
SHAPE = (12, 3, 5)


def data(path):
    """Returns training and test batches of random images."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (49, 12, 12, 3)).astype("uint8")
    labels = random.integers(0, 5, 49)
    parts = {"x_train": images[9:], "y_train": labels[9:]}
    parts |= {"x_test": images[:9], "y_test": labels[:9]}
    np.savez(path, **parts)
    # Mixing takes from neighbours that another process may have.
    augmentation = Augmentation(crop="pad", randaugment_ops=0, mixup=0.5)
    train, test = open_source(path, "train"), open_source(path, "validation")
    return (
        training_batches(train, *SHAPE, BATCH, augmentation, 0),
        evaluation_batches(test, *SHAPE, BATCH),
    )


def main(told):
    """Trains as it is told."""
    if BACKEND == "tensorflow" and told["devices"] > 1:
        split_cpu(told["devices"])
    distribution = distribute(told["mode"], told["expert_devices"])
    name = f"{told['output']}/{distribution.rank}"
    batches, test = data(f"{name}.data.npz")
    quiet = {"dropout": 0.0, "router_noise": 0.0, "stochastic_depth": 0.0}
    quiet |= told.get("fields", {})
    config = tiny_config(balance_loss_weight=1.0, expert_dim=26, **quiet)
    with distribution.scope():
        keras.utils.set_random_seed(0)
        model = widenet_keras.ImageClassifier(config, seed=0)
        teacher = widenet_keras.ImageClassifier(config)
        model.compile(
            AdamW(1e-3, global_clipnorm=0.1, use_ema=True, ema_momentum=0.5),
            loss=keras.losses.CategoricalCrossentropy(from_logits=True),
        )
        history = model.fit(
            distribution.training(batches),
            steps_per_epoch=BATCHES,
            validation_data=test,
            verbose=0,
        ).history
        facts = {name: value[0] for name, value in history.items()}
        facts["description"] = distribution.description
        if BACKEND == "jax":
            facts["shards"] = shards(model)
        # Neither clipped nor divided by its own size, a gradient of another scale
        # shows.
        terms = [
            widenet_keras.Distillation(teacher, alpha=0.5, temperature=2.0),
            widenet_keras.RelationDistillation(teacher, heads=2),
            widenet_keras.HiddenDistillation(teacher),
        ]
        model.compile(keras.optimizers.SGD(0.01), loss=model.loss, terms=terms)
        rest = distribution.training(batches, BATCHES)
        logs = model.fit(rest, steps_per_epoch=1, verbose=0).history
        for term in terms:
            facts[f"{term.name}_loss"] = logs[f"{term.name}_loss"][0]
        with distribution.logical_weights(model):
            weights = [keras.ops.convert_to_numpy(v) for v in model.trainable_variables]
        logits = model.predict(test, verbose=0)
    np.savez(f"{name}.npz", *weights, logits=logits)
    with open(f"{name}.json", "w") as file:
        json.dump(facts, file)


def shards(model):
    """Returns the part of every expert weight that one device holds."""
    parts = {}
    for variable in [*model.variables, *model.optimizer.variables]:
        if "experts" in variable.path and len(variable.shape) > 1:
            [shard, *_] = variable.value.addressable_shards
            parts[variable.path] = shard.data.size / variable.value.size
    return parts


if __name__ == "__main__":
    # Or a device of TensorFlow that gets no image fails at the bias: as it stands, the
    # convolution of none has their shape.
    optimize_graphs(True)
    main(json.loads(sys.argv[1]))
