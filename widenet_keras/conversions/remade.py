"""A model with another configuration and the weights of the one that it is made of."""

import keras
import numpy as np

from widenet_keras.models.config import WideNetConfig
from widenet_keras.models.frozen import parts_kept
from widenet_keras.models.weights import weights_by_path
from widenet_keras.models.widenet import WideNet


def check_model(owner: str, model: object):
    """Raises `ValueError` unless something is a model of this package.

    Args:
        owner: Who asks, for the message.
        model: Anything.
    """
    if not isinstance(model, WideNet):
        raise ValueError(
            f"{owner}: a {type(model).__name__} is not a model of this package; give "
            "an ImageClassifier, such as load_model() returns."
        )


def begun(model: WideNet, config: WideNetConfig) -> WideNet:
    """Returns a new model of the same class, name, dtype policy and origin.

    Its weights are fresh, and all are trained.

    Args:
        model: A `WideNet` or `ImageClassifier`.
        config: `WideNetConfig` of the new one.
    """
    return type(model)(
        config,
        seed=model.seed,
        dtype=model.dtype_policy,
        name=model.name,
        origin=model.origin(),
    )


def remade(
    model: WideNet, config: WideNetConfig, values: dict[str, np.ndarray]
) -> WideNet:
    """Returns a new, uncompiled model of the same class, name and dtype policy.

    Args:
        model: A `WideNet` or `ImageClassifier`.
        config: `WideNetConfig` of the new one.
        values: Dict from paths to arrays, of the weights that are not those of the
            model at the same path.
    """
    other = begun(model, config)
    other.frozen = parts_kept(model, other)
    sources = weights_by_path(model)
    for path, weight in weights_by_path(other).items():
        # A copy: JAX gives the memory of a weight to what it computes next.
        value = values[path] if path in values else sources[path]
        weight.assign(keras.ops.copy(value))
    return other
