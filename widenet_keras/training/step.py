"""Chooses the train and test step of the running backend, in this one place."""

import keras

if keras.backend.backend() == "tensorflow":
    from widenet_keras.training.tensorflow_step import TrainStep as TrainStep
elif keras.backend.backend() == "jax":
    from widenet_keras.training.jax_step import TrainStep as TrainStep
elif keras.backend.backend() == "torch":
    from widenet_keras.training.torch_step import TrainStep as TrainStep
else:
    raise ImportError(
        f"widenet_keras trains on the tensorflow, jax and torch backends, not on "
        f"{keras.backend.backend()!r}; set KERAS_BACKEND to one of them."
    )
