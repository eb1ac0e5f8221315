"""The weights of a model by path, and as NumPy arrays."""

import keras
import numpy as np


def check_plain(owner: str, model: keras.Model):
    """Raises `ValueError` for kernels that are int8, or that LoRA of Keras adds to.

    Args:
        owner: Who asks, for the message.
        model: A `WideNet` or `ImageClassifier`.
    """
    if model.quantization is not None:
        raise ValueError(
            f"{owner}: {model.name} is quantised to {model.quantization!r}; give the "
            "float model, and quantise the result."
        )
    added = [path for path in weights_by_path(model) if "/lora_kernel_" in path]
    if added:
        raise ValueError(
            f"{owner}: {model.name} has LoRA factors ({added[0]}); save it and load "
            "the file, which adds them to their kernels."
        )


def check_kernels(owner: str, model: keras.Model):
    """Raises `ValueError` for steps whose kernels are read from a ring.

    Args:
        owner: Who asks, for the message.
        model: A `WideNet` or `ImageClassifier`.
    """
    if model.config.ring_size is not None:
        raise ValueError(
            f"{owner}: the kernels of {model.name} are read from a ring (ring_size="
            f"{model.config.ring_size}); untie() it first, which writes them out."
        )


def weights_by_path(model: keras.Model) -> dict[str, keras.Variable]:
    """Returns the weights of a model by their paths inside it.

    Args:
        model: A `WideNet` or `ImageClassifier`.
    """
    return {path_of(weight): weight for weight in model.weights}


def weights_of_blocks(model: keras.Model) -> list[str]:
    """Returns the paths of those weights of pieces that steps share with their block.

    Args:
        model: A `WideNet` or `ImageClassifier`.
    """
    stacks = model.encoder.stacked_pieces
    return [] if stacks is None else [path_of(weight) for weight in stacks.of_blocks]


def weights_of_some_steps(model: keras.Model) -> list[str]:
    """Returns the paths of those weights of pieces that dense or routed steps have.

    Args:
        model: A `WideNet` or `ImageClassifier`.
    """
    stacks = model.encoder.stacked_pieces
    return [] if stacks is None else [path_of(each) for each in stacks.of_some_steps]


def assign_all(model, arrays, origin: str):
    """Gives a model all of its weights, or raises `ValueError` and changes nothing.

    Args:
        model: A `WideNet` or `ImageClassifier`.
        arrays: Dict of arrays by the paths of the weights inside the model.
        origin: What messages call where they are from.
    """
    weights = weights_by_path(model)
    left = sorted(arrays.keys() - weights.keys())
    if left:
        raise ValueError(f"{origin}: the model has no place for {left[0]}.")
    values = {}
    for path, weight in weights.items():
        if path not in arrays:
            raise ValueError(f"{origin}: nothing in it becomes {path}.")
        value = np.asarray(arrays[path], "float32")
        if value.shape != tuple(weight.shape):
            raise ValueError(
                f"{origin}: what becomes {path} has shape {value.shape} and "
                f"{tuple(weight.shape)} is needed; build the model with its sizes."
            )
        if not np.isfinite(value).all():
            raise ValueError(
                f"{origin}: what becomes {path} has values that are no numbers."
            )
        values[path] = value
    for path, weight in weights.items():
        weight.assign(keras.ops.convert_to_tensor(values[path]))


def path_of(weight: keras.Variable) -> str:
    """Returns the path of a weight without the model's name.

    Args:
        weight: Weight of a model.
    """
    return weight.path.split("/", 1)[1]


def read(weight: keras.Variable) -> np.ndarray:
    """Returns a weight as float64, for exact means.

    Args:
        weight: Weight of a model, of floats.
    """
    return keras.ops.convert_to_numpy(keras.ops.cast(weight, "float32")).astype(float)
