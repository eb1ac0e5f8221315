"""Parts of a model that training leaves as they are, named by the roles of weights."""

import math
from collections.abc import Iterable

from widenet_keras.utils.checks import check_choice
from widenet_keras.utils.roles import GROUPS, role_of


class Freezing:
    """Part of a model: which groups of its weights are not trained."""

    @property
    def frozen(self) -> tuple[str, ...]:
        """Groups of weights of which none is trained, in the order of `GROUPS`.

        "embedding", "core" (what steps share: attention, router, experts, MLPs),
        "norms" and "pieces" (what each step keeps for itself) and "head". To set it
        freezes these and trains all others, before or after `compile`:

            model.frozen = ("embedding", "core")  # norms and head are trained
            model.frozen = ()

        A frozen group has neither gradients nor a state in the optimizer. The file of
        a model keeps the groups; single layers with `trainable = False` it forgets.
        """
        trained = {id(weight) for weight in self.trainable_variables}
        there = {role_of(weight).group for weight in self.weights}
        kept = {role_of(w).group for w in self.weights if id(w) in trained}
        return tuple(group for group in GROUPS if group in there - kept)

    @frozen.setter
    def frozen(self, groups: Iterable[str]):
        groups = checked_groups(self.name, groups)
        # Undoes what was set of single layers too. TensorFlow's layers pass over what
        # they are told twice, with their weights.
        for layer in self._flatten_layers():
            layer.trainable = False
            layer.trainable = True
            if getattr(layer, "lora_enabled", False):
                # What its factors are added to stays as it was trained.
                layer._kernel.trainable = False
        for weight in self.weights:
            if role_of(weight).group in groups:
                weight.trainable = False


def checked_groups(owner: str, groups: Iterable[str]) -> tuple[str, ...]:
    """Returns names of groups of weights as a tuple.

    Args:
        owner: Who asks, for the message.
        groups: Any of `GROUPS`.

    Raises:
        ValueError: If one is unknown, or it is one text.
    """
    if isinstance(groups, str) or not isinstance(groups, Iterable):
        raise ValueError(
            f"{owner}: frozen={groups!r} is no tuple; give some of "
            f"{', '.join(map(repr, GROUPS))}, such as frozen=('embedding', 'core')."
        )
    groups = tuple(groups)
    for group in groups:
        check_choice(owner, "frozen", group, GROUPS)
    return groups


def trained_parameters(model) -> int:
    """Returns the number of parameters that training changes.

    Args:
        model: A `WideNet` or `ImageClassifier`.
    """
    return sum(math.prod(weight.shape) for weight in model.trainable_variables)
