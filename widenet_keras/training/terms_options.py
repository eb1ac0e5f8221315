"""What a run minimises beside the task loss, as plain values that flags can set."""

import dataclasses
from pathlib import Path
from typing import Literal

from widenet_keras.inference.keras_file import named_classifier
from widenet_keras.training.consistency import Consistency
from widenet_keras.training.distillation import (
    Distillation,
    check_options,
    check_teacher,
)
from widenet_keras.training.terms import Term
from widenet_keras.utils.checks import check_number
from widenet_keras.utils.digests import sha256_of

_OF_A_TEACHER = ("alpha", "temperature", "kind")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Terms:
    """Terms of the objective; none by default.

    Raises:
        ValueError: If a field is out of range; one line says what is allowed.
    """

    teacher: Path | None = None
    """A .keras file of the same classes whose answers are learned too."""
    alpha: float = 0.9
    """How much of the loss is the teacher's, from 0 to 1."""
    temperature: float = 1.0
    """What the logits of model and teacher are divided by."""
    kind: Literal["soft", "hard"] = "soft"
    """soft: the teacher's probabilities; hard: the class that it finds."""
    consistency: float = 0.0
    """Weight of what keeps two passes with other dropout together; 0 for one pass."""

    def __post_init__(self):
        check_options("Terms", self.alpha, self.temperature, self.kind)
        check_number("Terms", "consistency", self.consistency, 0.0)
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            of_a_teacher = field.name in _OF_A_TEACHER and value != field.default
            if of_a_teacher and self.teacher is None:
                raise ValueError(
                    f"Terms: {field.name}={value!r} is of a teacher and there is none; "
                    "give --teacher as well, or leave it out."
                )

    def build(self, model) -> list[Term]:
        """Returns the terms, for `compile`.

        Args:
            model: The `ImageClassifier` that is trained.

        Raises:
            ValueError: If the file of the teacher does not open, or it does not fit.
        """
        terms = []
        if self.teacher is not None:
            teacher = named_classifier(self.teacher)
            try:
                check_teacher(teacher, model)
            except ValueError as error:
                raise ValueError(f"{self.teacher}: {error}") from error
            options = (self.alpha, self.temperature, self.kind)
            terms.append(Distillation(teacher, *options))
        if self.consistency:
            terms.append(Consistency(self.consistency))
        return terms

    def settings(self) -> dict:
        """Returns what the weights at the end depend on; nothing without terms.

        Of the teacher this is the SHA-256 of its file, wherever that is.
        """
        found = {"consistency": self.consistency} if self.consistency else {}
        if self.teacher is not None:
            options = {name: getattr(self, name) for name in _OF_A_TEACHER}
            found |= {"teacher": sha256_of(self.teacher), **options}
        return found


NO_TERMS = Terms()
