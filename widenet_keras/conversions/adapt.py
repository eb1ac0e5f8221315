"""A trained model under a changed configuration, with all weights that still fit."""

from collections.abc import Iterable

import keras

from widenet_keras.conversions.untie import untie
from widenet_keras.layers.embedding import resample_positions
from widenet_keras.models.class_names import same_classes
from widenet_keras.models.frozen import checked_parts, parts_kept, weights_of_part
from widenet_keras.models.weights import check_plain, path_of, weights_by_path
from widenet_keras.models.widenet import WideNet
from widenet_keras.utils.roles import role_of


def adapted(
    model: WideNet,
    dtype: str | keras.DTypePolicy | None = None,
    class_names: Iterable[str] | None = None,
    frozen: Iterable[str] | None = None,
    **fields,
) -> WideNet:
    """Returns a copy of a model with some fields of its config changed.

    For fine-tuning: another `image_size` resamples the position table (bicubic),
    other classes start the last layer anew, `num_classes=0` leaves it out, and fields
    that touch no weight (dropout, capacity, loss weights, engine, remat ...) just
    change. `pieces` may be added, which start anew, or left out; for a piece of other
    sizes leave it out first, `adapted(pieces=()).adapted(pieces=[...])`. With
    `ring_size=None` kernels that are read from a ring are written out, as by `untie`.
    All other weights are equal. The copy is not compiled.

    ```python
    adapters = [{"kind": "lora", "rank": 4}]
    tuned = vit.adapted(pieces=adapters, frozen=("embedding", "core", "norms"))
    ```

    Pieces that start without effect, as "lora", "bottleneck", "head_mix" and
    "relative_keys" do, leave the logits as they are: bit for bit, where no compiler,
    joined product or fused attention sums in another order. What starts as published,
    and "token_conv", changes them.

    Args:
        model: A `WideNet` or `ImageClassifier`.
        dtype: Dtype policy of the copy; None for that of the model.
        class_names: Names of the classes of the copy; `num_classes` follows. If they
            are those of the model, in whatever order, last layer and order stay.
        frozen: What the copy does not train, such as `("embedding", "core")`; None for
            that of the model without what starts anew.
        **fields: Fields of `WideNetConfig` to change. `pieces` are those that the copy
            has, `Piece`s or dicts.

    Raises:
        ValueError: If the model is quantised, a field is unknown, or would change the
            shape of another weight, or what starts anew, a last layer or pieces,
            would be frozen; one line names it.
    """
    check_plain("adapted", model)
    model = _without_ring(model, fields)
    if class_names is not None:
        # A text is refused with the others that are no names.
        one_text = isinstance(class_names, str)
        class_names = class_names if one_text else tuple(class_names)
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
    for path in sorted(mine.keys() ^ theirs.keys()):
        if role_of(mine.get(path, theirs.get(path))).group != "pieces":
            raise ValueError(
                f"adapted: {_listed(fields)} would change the weights themselves "
                f"({path}); build a new model, or change only fields that keep them."
            )
    new = [theirs[path] for path in theirs.keys() - mine.keys()]
    anew = {"pieces start anew": new}
    if fresh_head and config.num_classes:
        anew["the last layer starts anew for other classes"] = other.head.logits.weights
    if frozen is None:
        fresh = [weight for weights in anew.values() for weight in weights]
        frozen = parts_kept(model, other, fresh)
    for what, weights in anew.items():
        for part in [part for part in frozen if _has(other, part, weights)]:
            raise ValueError(
                f"adapted: {what} and {part!r} in frozen would leave it so; give "
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
            advice = "build a new model, or change only fields that keep it"
            if role_of(weight).group == "pieces":
                advice = (
                    "it starts anew where it is left out first, "
                    "adapted(pieces=()).adapted(pieces=[...])"
                )
            raise ValueError(
                f"adapted: {_listed(fields)} would change the shape of {path} from "
                f"{value.shape} to {tuple(weight.shape)}; {advice}."
            )
        weight.assign(value)
    return other


def _without_ring(model, fields):
    """Returns the model, untied if it has a ring and the copy shall have none."""
    config = model.config
    if config.ring_size is None:
        return model
    for name in ("ring_size", "ring_seed"):
        has = getattr(config, name)
        given = fields.get(name, has)
        if given is None:
            return untie(model)
        if given != has:
            raise ValueError(
                f"adapted: {name}={given!r} is another ring than that of the model "
                f"({name}={has}), whose numbers mean nothing there; build a new model, "
                "or use ring_size=None for its kernels without a ring."
            )
    return model


def _carried(model, fresh_head):
    """Returns the weights by path that a copy has from its source."""
    weights, head = weights_by_path(model), model.head
    if fresh_head and head.logits is not None:
        for weight in head.logits.weights:
            del weights[path_of(weight)]
    return weights


def _has(model, part, weights):
    """Whether a part of a model has any of some weights."""
    found = {id(weight) for weight in weights_of_part(model, part)}
    return not found.isdisjoint(map(id, weights))


def _listed(fields):
    return ", ".join(f"{name}={value!r}" for name, value in fields.items())
