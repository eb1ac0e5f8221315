"""A trained model under a changed configuration, with all weights that still fit."""

import keras

from widenet_keras.layers.embedding import resample_positions
from widenet_keras.models.class_names import same_classes
from widenet_keras.models.frozen import checked_parts
from widenet_keras.models.weights import check_plain, path_of, weights_by_path
from widenet_keras.utils.roles import role_of


def adapted(model, dtype=None, class_names=None, frozen=None, **fields):
    """Returns a copy of a model with some fields of its config changed.

    For fine-tuning: another `image_size` resamples the position table (bicubic),
    other classes start the last layer anew, `num_classes=0` leaves it out, and fields
    that touch no weight (dropout, capacity, loss weights, engine, remat ...) just
    change. `pieces` may be added, which start anew, or left out. All other weights are
    equal. The copy is not compiled.

    ```python
    adapters = [{"kind": "lora", "rank": 4}]
    tuned = vit.adapted(pieces=adapters, frozen=("embedding", "core", "norms"))
    ```

    Pieces that start without effect, as those of "lora" do, leave the logits as they
    are, bit for bit.

    Args:
        model: A `WideNet` or `ImageClassifier`.
        dtype: Dtype policy of the copy; None for that of the model.
        class_names: Names of the classes of the copy; `num_classes` follows. If they
            are those of the model, in whatever order, last layer and order stay.
        frozen: Groups of weights that the copy does not train, such as
            `("embedding", "core")`; None for those of the model without what starts
            anew.
        **fields: Fields of `WideNetConfig` to change. `pieces` are those that the copy
            has, `Piece`s or dicts.

    Raises:
        ValueError: If the model is quantised, a field is unknown, or would change the
            shape of another weight, or what starts anew, a last layer or pieces,
            would be frozen; one line names it.
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
    if frozen is not None:
        frozen = checked_parts("adapted", frozen)
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
    )
    mine, theirs = _carried(model, fresh_head), _carried(other, fresh_head)
    may_change = ("pieces",) if "pieces" in fields else ()
    for path in sorted(mine.keys() ^ theirs.keys()):
        if role_of(mine.get(path, theirs.get(path))).group not in may_change:
            raise ValueError(
                f"adapted: {_listed(fields)} would change the weights themselves "
                f"({path}); build a new model, or change only fields that keep them."
            )
    anew = {}
    if fresh_head and config.num_classes:
        reason = "the last layer starts anew for other classes"
        anew |= {"head": reason, "head/logits": reason}
    if theirs.keys() - mine.keys():
        anew |= dict.fromkeys(("pieces", "encoder/pieces"), "pieces start anew")
    if frozen is None:
        frozen = [part for part in model.frozen if part not in anew]
    for part in [part for part in anew if part in frozen]:
        raise ValueError(
            f"adapted: {anew[part]} and {part!r} in frozen would leave it so; give "
            f"frozen=... without {part!r}."
        )
    other.frozen = frozen
    for path, weight in theirs.items():
        if path not in mine:
            continue
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


def _listed(fields):
    return ", ".join(f"{name}={value!r}" for name, value in fields.items())
