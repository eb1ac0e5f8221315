"""Checks of what `fit` and its like take besides data, before anything runs."""

import functools
import inspect
import numbers
from typing import Any

import keras

from widenet_keras.utils.checks import check_integer, check_number, suggest

_DATA = ("self", "x", "y")
_AT_LEAST = {
    "batch_size": 1,
    "validation_batch_size": 1,
    "steps": 1,
    "steps_per_epoch": 1,
    "validation_steps": 1,
    "epochs": 0,
    "initial_epoch": 0,
}
_NEVER_NONE = ("epochs", "initial_epoch")


def checked_options(method: str, args: tuple, kwargs: dict, model: Any = None) -> dict:
    """Returns the arguments of a method of `keras.Model` behind the data, by name.

    In weights of classes those that were left out are there as 1, where it is known
    which labels there are.

    Args:
        method: "fit", "evaluate", "predict", "train_on_batch" or "test_on_batch".
        args: Those given by position.
        kwargs: Those given by name.
        model: `ImageClassifier` whose labels are known, or None.

    Raises:
        TypeError: If there is no such argument.
        ValueError: If a number is out of range; one line says what is allowed.
    """
    names = _names(method)
    if len(args) > len(names):
        raise TypeError(
            f"{method} takes at most {len(names)} arguments after the data and got "
            f"{len(args)}."
        )
    options = {**dict(zip(names, args, strict=False)), **kwargs}
    for name, value in [*options.items()]:
        # Keras hands some to itself.
        if name not in names and not name.startswith("_"):
            raise TypeError(f"{method} has no argument {name!r}.{suggest(name, names)}")
        if name in _AT_LEAST and (value is not None or name in _NEVER_NONE):
            # Of NumPy too.
            whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
            value = int(value) if whole else value
            check_integer(method, name, value, _AT_LEAST[name])
            options[name] = value
    check_number(
        method, "validation_split", options.get("validation_split") or 0, 0.0, below=1.0
    )
    if (weights := options.get("class_weight")) is not None:
        options["class_weight"] = _class_weights(method, weights, _num_labels(model))
    return options


def batches_asked_for(options: dict | None) -> int | None:
    """Returns how many batches of a stream Keras will take, None if nobody said.

    Args:
        options: As `checked_options` returns them, or None.
    """
    options = options or {}
    steps = options.get("steps") or options.get("steps_per_epoch")
    epochs = options.get("epochs", 1) - options.get("initial_epoch", 0)
    return steps and steps * max(epochs, 0)


@functools.cache
def _names(method):
    """Returns the arguments of a method behind the data; looked up once."""
    parameters = inspect.signature(getattr(keras.Model, method)).parameters
    return [name for name in parameters if name not in _DATA and name != "kwargs"]


def _num_labels(model):
    """Returns how many numbers labels may be, from 0 on; 0 if nobody knows."""
    if model is None or model.labels_kind == "any" or not model.config.num_classes:
        return 0
    # A single logit tells 1 from 0.
    return max(model.config.num_classes, 2)


def _class_weights(method, weights, num_labels):
    """Returns the weight of every class, a dict."""
    if not isinstance(weights, dict):
        raise ValueError(
            f"{method}: class_weight is a {type(weights).__name__} and must be a dict "
            "from the number of a class to its weight."
        )
    for name, weight in weights.items():
        check_number(method, f"class_weight[{name!r}]", weight, 0.0)
    if not num_labels:
        return weights
    # Keras takes no notice of others, or fails at the first label of one.
    if others := [name for name in weights if name not in range(num_labels)]:
        raise ValueError(
            f"{method}: class_weight has {others[0]!r}, which is no class; its keys "
            f"are the numbers of classes, 0 to {num_labels - 1}."
        )
    return {number: weights.get(number, 1.0) for number in range(num_labels)}
