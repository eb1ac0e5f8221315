"""Chooses how runs of rows meet their experts on the running backend."""

import keras

if keras.backend.backend() == "jax":
    from widenet_keras.layers.expert_runs_jax import run_by_expert as run_by_expert
elif keras.backend.backend() == "torch":
    from widenet_keras.layers.expert_runs_torch import run_by_expert as run_by_expert
else:
    from widenet_keras.layers.expert_runs_tensorflow import (
        run_by_expert as run_by_expert,
    )
