"""A smaller model: what the loss moves least with, for what it costs, is taken out."""

import math
import os
from collections.abc import Callable

import numpy as np
from keras import ops

from widenet_keras.conversions.costs import MEASURES, Costs, Table, is_within
from widenet_keras.conversions.cut import cut
from widenet_keras.conversions.importance import check_classifier, importance
from widenet_keras.conversions.selection import kept_units, least_cost
from widenet_keras.conversions.units import unit_sets
from widenet_keras.models.config_checks import check_one_path
from widenet_keras.models.weights import check_kernels
from widenet_keras.training.image_classifier import ImageClassifier
from widenet_keras.utils.checks import check_choice, check_fraction, check_integer
from widenet_keras.utils.printable import printable


def prune(
    model: ImageClassifier,
    images: object,
    labels: object = None,
    target: float = 0.5,
    measure: str = "flops",
    rounds: int = 1,
    finetune: Callable[[ImageClassifier], ImageClassifier | None] | None = None,
    multiple: int = 8,
    batch_size: int = 32,
    loss: object = "auto",
    table: str | os.PathLike | Table | None = None,
) -> ImageClassifier:
    """Returns a smaller and faster model, to be trained a little more.

    ```python
    small = widenet_keras.prune(vit, images, labels, target=0.5)
    small.compile(terms=[widenet_keras.Distillation(vit)])
    small.fit(images, labels, epochs=2)
    ```

    After "NViT" (arXiv 2110.04869). A unit is a head, one dimension of the queries and
    keys or of the values of all heads of a block, a hidden unit, or an expert. It is
    worth the mean over the batches of (sum of weight * gradient over all its weights)
    squared: what the loss moves by, to first order, when the unit shrinks. A block that
    several steps read is changed in all of them, and its gradients and its cost are
    those of all. Of all units of all blocks those go first that are worth least for
    what they cost. Of every expert as many hidden units go, each its own; of every
    mixture as many experts.

    What is left computes as it did: the logits are those of the model with zeros for
    what went, and with routers that never choose an expert that is gone.

    A model with `nested_widths` has none any more where hidden units went, whose
    fractions are others then; steps that take a part of their block (`step_widths`)
    need `untie` first.

    The width of the tokens stays, which NViT prunes as well: a LayerNorm of fewer
    channels has other means, so that what is left would compute something else.

    Args:
        model: An `ImageClassifier` without pieces.
        images: (N, height, width, channels), or what else `fit` takes. Some hundreds
            are enough.
        labels: (N,) integers, or as `loss` takes them; None if the images have them.
        target: Which part of the cost is left, at most; over 0 and below 1.
        measure: What the cost is: "flops" by formula, "parameters", or "latency" by
            `table`; of the whole model.
        rounds: In how many rounds, of the same factor each, with gradients of their
            own.
        finetune: Function that trains a model, called between rounds; it returns a
            model, or None where it has trained the one that it was given.
        multiple: How many hidden units, and key or value dimensions, go at a time.
            What is left is a multiple of it, as hardware likes best, or all; at least
            one head, so many hidden units and eight of the dimensions are.
        batch_size: Images per batch.
        loss: As for `ImageClassifier.compile`.
        table: For "latency": the file that `widenet measure` wrote on the machine that
            shall be fast, or the `LatencyTable` in it.

    Returns:
        A new, uncompiled model of the same class and dtype policy, with `block_sizes`;
        the same groups are frozen.

    Raises:
        ValueError: If the model has pieces or cannot become so small, a setting is out
            of range, or images, labels or the table do not fit the model.
    """
    check_integer("prune", "rounds", rounds, 1)
    check_integer("prune", "batch_size", batch_size, 1)
    _check_rounds(rounds, finetune, images)
    whole, table = checked_cost(model, target, measure, multiple, table)
    given = model
    for number in range(1, rounds + 1):
        costs = Costs(model, measure, table)
        budget = whole * target ** (number / rounds)
        if is_within(costs.whole, budget):
            continue
        look = images, labels, batch_size, loss
        worth = importance(model, unit_sets(model), ops.square, "core", *look)
        _check_worth(model, worth)
        model = cut(model, kept_units(worth, costs, budget, multiple))
        if finetune is not None and number < rounds:
            trained = finetune(model)
            model = model if trained is None else trained
            _check_model(model)
    if model is given:
        raise ValueError(
            f"prune: {model.name} costs no more than target={target} of itself as it "
            "is; use a smaller target."
        )
    return model


def checked_cost(
    model: ImageClassifier,
    target: float = 0.5,
    measure: str = "flops",
    multiple: int = 8,
    table: str | os.PathLike | Table | None = None,
) -> tuple[float, Table | None]:
    """Returns what a model costs, and the table that says so, or None.

    Args:
        model: As for `prune`.
        target: As for `prune`.
        measure: As for `prune`.
        multiple: As for `prune`.
        table: As for `prune`.

    Raises:
        ValueError: As for `prune`, of anything but images and labels.
    """
    _check_model(model)
    check_fraction("prune", "target", target, zero=False, one=False)
    check_choice("prune", "measure", measure, MEASURES)
    check_integer("prune", "multiple", multiple, 1)
    found = _table_of(model, measure, table)
    costs = Costs(model, measure, found)
    if not 0 < costs.whole < math.inf:
        raise ValueError(
            f"prune: by the table {model.name} takes {costs.whole:g} milliseconds, of "
            "which there is no part; run `widenet measure` on the model."
        )
    least = least_cost(costs, multiple)
    if not is_within(least, target * costs.whole):
        one, advice = least_cost(costs, 1), ""
        if not is_within(least, one):
            advice = f", or multiple=1 to reach {_share(one, costs)}"
        raise ValueError(
            f"prune: target={target} of the {measure} of {model.name} cannot be "
            f"reached, and the least that can is {_share(least, costs)}; use a target "
            f"from there on{advice}."
        )
    return costs.whole, found


def _share(cost, costs):
    """Returns a part of the whole as text, rounded up so that it can be reached."""
    return f"{math.ceil(1000 * cost / costs.whole) / 1000:g}"


def _check_model(model):
    """Raises `ValueError` unless a model can be pruned, whatever it costs."""
    check_classifier("prune", model)
    check_one_path("prune", model.config)
    check_kernels("prune", model)
    kinds = [piece.kind for piece in model.config.pieces]
    if kinds:
        advice = "leave them out with adapted(pieces=())"
        if kinds == ["lora"]:
            advice = "use merge() first, or untie() where steps share blocks"
        raise ValueError(
            f"prune: {model.name} has pieces ({', '.join(kinds)}), which need blocks "
            f"of one size; {advice}."
        )
    if model.config.step_widths is not None:
        raise ValueError(
            f"prune: the steps of {model.name} take different parts of their blocks "
            f"(step_widths={model.config.step_widths}); use untie() first."
        )


def _check_worth(model, worth):
    """Raises `ValueError` unless worth tells units apart."""
    if not all(np.isfinite(each).all() for each in worth.values()):
        raise ValueError(
            f"prune: gradients of {model.name} are no numbers; its loss on these "
            "images is not finite, so see what its weights are."
        )
    if not any(each.any() for each in worth.values()):
        raise ValueError(
            f"prune: the loss of {model.name} on these images is 0, or nothing in its "
            "blocks moves it; give other images or labels, or another loss."
        )


def _check_rounds(rounds, finetune, images):
    if finetune is not None and not callable(finetune):
        raise ValueError(
            f"prune: finetune={finetune!r} must be a function of a model, or None."
        )
    if finetune is not None and rounds == 1:
        raise ValueError(
            "prune: finetune is called between rounds and there is rounds=1; use "
            "rounds=2 or more, and train the result yourself."
        )
    if rounds > 1 and hasattr(images, "__next__"):
        raise ValueError(
            f"prune: each of {rounds} rounds looks at the images and a generator gives "
            "them once; give arrays or a data set, or use rounds=1."
        )


def _table_of(model, measure, table):
    """Returns the table that a measure needs, or None."""
    if measure != "latency":
        if table is not None:
            raise ValueError(
                f"prune: a table is for measure='latency' and this is {measure!r}; "
                "leave one of them out."
            )
        return None
    if table is None:
        raise ValueError(
            "prune: measure='latency' needs table=..., a file that `widenet measure` "
            "writes on the machine that shall be fast."
        )
    if isinstance(table, str | os.PathLike):
        from widenet_keras.conversions.latency import LatencyTable

        table = LatencyTable.read(table)
    methods = "check", "attention", "feed_forward", "forward"
    if not all(callable(getattr(table, name, None)) for name in methods):
        raise ValueError(
            f"prune: table={printable(repr(table)):.40} is no table; give the file "
            "that `widenet measure` wrote, or a LatencyTable."
        )
    table.check(model.config, model.dtype_policy.name)
    return table
