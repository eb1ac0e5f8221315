"""Chooses how runs of rows meet their experts on the running backend."""

import keras

from widenet_keras.layers.mlp import Bank

if keras.backend.backend() == "jax":
    from widenet_keras.layers.expert_runs_jax import run_by_expert as run_by_expert
elif keras.backend.backend() == "torch":
    from widenet_keras.layers.expert_runs_torch import run_by_expert as run_by_expert
else:
    from widenet_keras.layers.expert_runs_tensorflow import (
        run_by_expert as run_by_expert,
    )


def bank_of(weights, engine):
    """Returns the `Bank` of stacked weights that an engine's rows are computed with.

    Args:
        weights: `ExpertWeights`.
        engine: The class of a dispatch engine.
    """
    backend = keras.backend.backend()
    if not engine.one_by_one or backend == "jax":
        return Bank(weights)
    # Grouped products of torch's GPUs take the stack.
    return Bank(weights if backend == "torch" else (), weights.unstacked())
