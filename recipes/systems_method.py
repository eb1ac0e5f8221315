"""What a way to a smaller or a tuned model is, for `systems.py`."""

import dataclasses
from collections.abc import Callable

from widenet_keras.conversions.remade import begun
from widenet_keras.training.terms_options import Terms


@dataclasses.dataclass(frozen=True)
class Method:
    """A way to a model, and how it is trained.

    Attributes:
        group: Which of `--rows` it belongs to.
        start: Function of the model that it starts from, to the model to train.
        against: The method that it is held against, or None.
        of: The method whose trained model it starts from; None for the source.
        shifted: Whether its images are those of the shifted task.
        learning_rate: Its own, of the shifted task always; None for
            `--learning-rate`.
        teacher: Alpha of the distillation from what it starts from, or None.
        consistency: Weight of the consistency of two passes.
        relation: Weight of the distillation of relations between tokens.
        hidden: Weight of that of the tokens themselves.
        looks: Whether `start` takes images and labels to train on as well.
        epochs: How long it is trained, 0 for not at all; None for `--epochs`.
        fresh: Part of the epochs of the source for which it is trained as that was,
            knowing nothing; None for what goes on from a trained model.
    """

    group: str
    start: Callable
    against: str | None = None
    of: str | None = None
    shifted: bool = False
    learning_rate: float | None = None
    teacher: float | None = None
    consistency: float = 0.0
    relation: float = 0.0
    hidden: float = 0.0
    looks: bool = False
    epochs: int | None = None
    fresh: float | None = None

    @property
    def trains(self):
        """Whether a model is trained from its start on."""
        return self.start is not None and self.epochs != 0

    def terms(self, teacher):
        """Returns the `Terms` of its training.

        Args:
            teacher: Path of the model that it starts from.
        """
        seen = {"relation": self.relation, "hidden": self.hidden}
        if self.teacher is None and not any(seen.values()):
            return Terms(consistency=self.consistency)
        alpha = self.teacher or 0.0
        return Terms(teacher=teacher, alpha=alpha, consistency=self.consistency, **seen)


def fresh_model(source, **fields):
    """Returns a model that knows nothing, with some fields of its own.

    Args:
        source: The model whose configuration, dtype policy and preprocessing it has
            otherwise.
        **fields: Fields of `WideNetConfig` to change.
    """
    return begun(source, source.config.replace(**fields))
