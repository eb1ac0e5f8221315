"""Parts of a model that training leaves as they are: groups of weights, and layers."""

import math
from collections.abc import Iterable

import keras

from widenet_keras.utils.checks import suggest
from widenet_keras.utils.roles import GROUPS, role_of


class Freezing:
    """Part of a model: which of its weights are not trained."""

    @property
    def frozen(self) -> tuple[str, ...]:
        """What is not trained: groups of weights, then layers of the other groups.

        Groups are "embedding", "core" (what steps share: attention, router, experts,
        MLPs), "norms" and "pieces" (what each step keeps for itself) and "head"; a
        layer is named by its path, such as "head/norm" or "encoder/pieces". To set it
        freezes these and trains all others, before or after `compile`:

            model.frozen = ("embedding", "core")  # norms and head are trained
            model.frozen = ("embedding", "core", "norms", "head/norm")
            model.frozen = ()

        What is frozen has neither gradients nor a state in the optimizer. The file of
        a model keeps it; single weights with `trainable = False` it forgets.
        """
        trained = {id(weight) for weight in self.trainable_variables}
        kept = {role_of(w).group for w in self.weights if id(w) in trained}
        there = {role_of(weight).group for weight in self.weights}
        groups = tuple(group for group in GROUPS if group in there - kept)
        layers = {}
        for weight in self.weights:
            if role_of(weight).group not in groups:
                layers.setdefault(_layer_of(weight), []).append(id(weight) in trained)
        return (*groups, *(layer for layer, some in layers.items() if not any(some)))

    @frozen.setter
    def frozen(self, parts: Iterable[str]) -> None:
        parts = checked_parts(self.name, parts)
        chosen = {part: weights_of_part(self, part) for part in parts}
        for part, weights in chosen.items():
            if not weights and part not in GROUPS:
                layers = dict.fromkeys(map(_layer_of, self.weights))
                raise ValueError(
                    f"{self.name}: frozen={part!r} is no part of it."
                    f"{suggest(part, [*GROUPS, *layers])} Parts: "
                    f"{', '.join(map(repr, GROUPS))}, or the path of a layer, such as "
                    "'head/norm'."
                )
        # Undoes what was set of single layers too. TensorFlow's layers pass over what
        # they are told twice, with their weights.
        for layer in self._flatten_layers():
            layer.trainable = False
            layer.trainable = True
            if getattr(layer, "lora_enabled", False):
                # What its factors are added to stays as it was trained.
                layer._kernel.trainable = False
        for weights in chosen.values():
            for weight in weights:
                weight.trainable = False


def _layer_of(weight):
    """Returns the path of the layer that holds a weight, without the model's name."""
    return weight.path.split("/", 1)[1].rpartition("/")[0]


def weights_of_part(model: keras.Model, part: str) -> list[keras.Variable]:
    """Returns the weights of a group, or of the layers at a path and inside it.

    Args:
        model: A `WideNet` or `ImageClassifier`.
        part: A name as `Freezing.frozen` has it.
    """
    if part in GROUPS:
        return [w for w in model.weights if role_of(w).group == part]
    return [w for w in model.weights if f"{_layer_of(w)}/".startswith(f"{part}/")]


def parts_kept(
    model: keras.Model, other: keras.Model, anew: Iterable[keras.Variable] = ()
) -> tuple[str, ...]:
    """Returns what a model leaves untrained and another one made of it may, a tuple.

    Left out is what the other one does not have, and what starts anew there.

    Args:
        model: A `WideNet` or `ImageClassifier`.
        other: The one that is made of it.
        anew: Weights of the other one that start anew.
    """
    anew = {id(weight) for weight in anew}
    found = {part: weights_of_part(other, part) for part in model.frozen}
    return tuple(
        part
        for part, weights in found.items()
        if weights and anew.isdisjoint(map(id, weights))
    )


def checked_parts(owner: str, parts: Iterable[str]) -> tuple[str, ...]:
    """Returns names of parts of a model as a tuple.

    Args:
        owner: Who asks, for the message.
        parts: Any of `GROUPS`, and paths of layers, whose weights are not trained.

    Raises:
        ValueError: If it is one text, or something in it is no text.
    """
    if isinstance(parts, str) or not isinstance(parts, Iterable):
        raise ValueError(
            f"{owner}: frozen={parts!r} is no tuple; give some of "
            f"{', '.join(map(repr, GROUPS))}, such as frozen=('embedding', 'core')."
        )
    parts = tuple(parts)
    for part in parts:
        if not isinstance(part, str):
            raise ValueError(
                f"{owner}: frozen={part!r} is no name of a part, such as 'core'."
            )
    return parts


def check_trains(model: keras.Model) -> None:
    """Raises `ValueError` if nothing of a model is trained.

    Args:
        model: A `WideNet` or `ImageClassifier`.
    """
    if not model.trainable_variables:
        raise ValueError(
            f"{model.name} has no trainable weight to train: frozen={model.frozen}; "
            "freeze fewer parts, such as ('embedding', 'core')."
        )


def trained_parameters(model: keras.Model) -> int:
    """Returns the number of parameters that training changes.

    Args:
        model: A `WideNet` or `ImageClassifier`.
    """
    return sum(math.prod(weight.shape) for weight in model.trainable_variables)
