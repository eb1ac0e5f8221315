"""What a way to a smaller or a tuned model is, for `systems.py`."""

import dataclasses
from collections.abc import Callable


@dataclasses.dataclass(frozen=True)
class Method:
    """A way to a model, and how it is trained.

    Attributes:
        group: Which of `--rows` it belongs to.
        start: Function of the model that it starts from, to the model to train.
        against: The method that it is held against, or None.
        of: The method whose trained model it starts from; None for the source.
        shifted: Whether its images are those of the shifted task.
        learning_rate: That of the shifted task; None for `--learning-rate`.
        teacher: Alpha of the distillation from what it starts from, or None.
        consistency: Weight of the consistency of two passes.
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
