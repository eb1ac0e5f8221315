"""A trained model under a changed configuration, with all weights that still fit."""

import keras
import numpy as np

from widenet_keras.layers.embedding import resample_positions
from widenet_keras.models.class_names import same_classes
from widenet_keras.models.frozen import checked_parts


def adapted(model, dtype=None, class_names=None, frozen=None, **fields):
    """Returns a copy of a model with some fields of its config changed.

    For fine-tuning: another `image_size` resamples the position table (bicubic),
    other classes start the last layer anew, `num_classes=0` leaves it out, and fields
    that touch no weight (dropout, capacity, loss weights, engine, remat ...) just
    change. All other weights are equal. The copy is not compiled.

    Args:
        model: A `WideNet` or `ImageClassifier`.
        dtype: Dtype policy of the copy; None for that of the model.
        class_names: Names of the classes of the copy; `num_classes` follows. If they
            are those of the model, in whatever order, last layer and order stay.
        frozen: Groups of weights that the copy does not train, such as
            `("embedding", "core")`; None for those of the model.
        **fields: Fields of `WideNetConfig` to change.

    Raises:
        ValueError: If the model is quantised, a field is unknown, or would change the
            shape of another weight, or a last layer that starts anew would be frozen;
            one line names it.
    """
    check_plain("adapted", model)
    if class_names is not None:
        fields.setdefault("num_classes", len(class_names))
    config = model.config.replace(**fields)
    fresh_head = config.num_classes != model.config.num_classes
    if class_names is None:
        class_names = None if fresh_head else model.class_names
    elif model.class_names is not None and not fresh_head:
        fresh_head = not same_classes(class_names, model.class_names)
        class_names = class_names if fresh_head else model.class_names
    fresh_layer = fresh_head and config.num_classes > 0
    if frozen is None:
        kept = {"head"} if fresh_layer else ()
        frozen = [group for group in model.frozen if group not in kept]
    frozen = checked_parts("adapted", frozen)
    if fresh_layer and "head" in frozen:
        raise ValueError(
            "adapted: the last layer starts anew for other classes and 'head' in "
            "frozen would leave it so; give frozen=... without 'head'."
        )
    dtype = model.dtype_policy if dtype is None else dtype
    other = type(model)(
        config,
        seed=model.seed,
        dtype=dtype,
        name=model.name,
        # Of another size it takes the same of an image.
        origin={
            **model.origin(),
            "class_names": class_names,
            "preprocessing": model.preprocessing.to_dict(),
        },
        frozen=frozen,
    )
    mine, theirs = _carried(model, fresh_head), _carried(other, fresh_head)
    if mine.keys() != theirs.keys():
        name = sorted(mine.keys() ^ theirs.keys())[0]
        raise ValueError(
            f"adapted: {_listed(fields)} would change the weights themselves ({name}); "
            "build a new model, or change only fields that keep them."
        )
    for path, weight in theirs.items():
        value = keras.ops.convert_to_numpy(mine[path])
        if mine[path] is model.embedding.position:
            value = resample_positions(value, model.config.grid, config.grid)
        if value.shape != tuple(weight.shape):
            raise ValueError(
                f"adapted: {_listed(fields)} would change the shape of {path} from "
                f"{value.shape} to {tuple(weight.shape)}; build a new model, or change "
                "only fields that keep it."
            )
        weight.assign(value)
    return other


def _carried(model, fresh_head):
    """Returns the weights by path that a copy has from its source."""
    weights, head = weights_by_path(model), model.head
    if fresh_head and head.logits is not None:
        for weight in head.logits.weights:
            del weights[path_of(weight)]
    return weights


def check_plain(owner: str, model):
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


def weights_by_path(model):
    """Returns the weights of a model by their paths inside it."""
    return {path_of(weight): weight for weight in model.weights}


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


def path_of(weight):
    """Returns the path of a weight without the model's name."""
    return weight.path.split("/", 1)[1]


def _listed(fields):
    return ", ".join(f"{name}={value!r}" for name, value in fields.items())
