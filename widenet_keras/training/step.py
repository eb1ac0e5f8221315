"""Chooses the train and test step of the running backend, in this one place."""

import keras

if keras.backend.backend() == "tensorflow":
    from widenet_keras.training.step_tensorflow import TrainStep as TrainStep
elif keras.backend.backend() == "jax":
    from widenet_keras.training.step_jax import TrainStep as TrainStep
elif keras.backend.backend() == "torch":
    from widenet_keras.training.step_torch import TrainStep as TrainStep
else:
    raise ImportError(
        f"widenet_keras trains on the tensorflow, jax and torch backends, not on "
        f"{keras.backend.backend()!r}; set KERAS_BACKEND to one of them."
    )
