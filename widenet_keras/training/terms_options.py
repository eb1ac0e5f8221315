"""What a run minimises beside the task loss, as plain values that flags can set."""

import dataclasses
from pathlib import Path
from typing import Literal

import keras

from widenet_keras.files.named import named_classifier
from widenet_keras.training.consistency import Consistency
from widenet_keras.training.distillation import Distillation, check_options
from widenet_keras.training.relations import HiddenDistillation, RelationDistillation
from widenet_keras.training.terms import Term
from widenet_keras.utils.checks import check_integer, check_number
from widenet_keras.utils.digests import sha256_of

_OF_LOGITS = ("alpha", "temperature", "kind")
_OF_TOKENS = ("relation", "hidden", "relation_heads")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Terms:
    """Terms of the objective; none by default.

    Raises:
        ValueError: If a field is out of range; one line says what is allowed.
    """

    teacher: Path | None = None
    """A .keras file of the same classes whose answers are learned too."""
    alpha: float = 0.9
    """How much of the loss is the teacher's, from 0 to 1; with relation or hidden, 0
    leaves its answers out, and it may have other classes."""
    temperature: float = 1.0
    """What the logits of model and teacher are divided by."""
    kind: Literal["soft", "hard"] = "soft"
    """soft: the teacher's probabilities; hard: the class that it finds."""
    relation: float = 0.0
    """Weight of the teacher's relations of queries, keys and values (MiniViT: 1)."""
    hidden: float = 0.0
    """Weight of the angles between the teacher's tokens (MiniViT: 0.1)."""
    relation_heads: int = 1
    """Heads of these relations; divides the channels of all heads of both."""
    consistency: float = 0.0
    """Weight of what keeps two passes with other dropout together; 0 for one pass."""

    def __post_init__(self):
        check_options("Terms", self.alpha, self.temperature, self.kind)
        for name in ("relation", "hidden", "consistency"):
            check_number("Terms", name, getattr(self, name), 0.0)
        check_integer("Terms", "relation_heads", self.relation_heads, 1)
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value == field.default or field.name == "teacher":
                continue
            of_a_teacher = field.name in (*_OF_LOGITS, *_OF_TOKENS)
            if of_a_teacher and self.teacher is None:
                raise ValueError(
                    f"Terms: {field.name}={value!r} is of a teacher and there is none; "
                    "give --teacher as well, or leave it out."
                )
            if field.name in _OF_LOGITS[1:] and not self._compares_logits:
                raise ValueError(
                    f"Terms: {field.name}={value!r} is of the teacher's answers, which "
                    "alpha=0 leaves out; leave it out too, or give an alpha over 0."
                )
            if field.name == "relation_heads" and not self.relation:
                raise ValueError(
                    f"Terms: relation_heads={value!r} is of relations, which are not "
                    "compared; give --relation as well, such as 1, or leave it out."
                )

    @property
    def _compares_logits(self):
        return bool(self.alpha or not (self.relation or self.hidden))

    def build(self, model: keras.Model) -> list[Term]:
        """Returns the terms, for `compile`.

        Args:
            model: The `ImageClassifier` that is trained.

        Raises:
            ValueError: If the file of the teacher does not open, or it does not fit.
        """
        terms: list[Term] = []
        if self.teacher is not None:
            teacher = named_classifier(self.teacher)
            if self._compares_logits:
                options = (self.alpha, self.temperature, self.kind)
                terms.append(Distillation(teacher, *options))
            if self.relation:
                options = (self.relation, self.relation_heads)
                terms.append(RelationDistillation(teacher, *options))
            if self.hidden:
                terms.append(HiddenDistillation(teacher, self.hidden))
            try:
                for term in terms:
                    term.check_teacher(model)
            except ValueError as error:
                raise ValueError(f"{self.teacher}: {error}") from error
        if self.consistency:
            terms.append(Consistency(self.consistency))
        return terms

    def settings(self) -> dict:
        """Returns what the weights at the end depend on; nothing without terms.

        Of the teacher this is the SHA-256 of its file, wherever that is.
        """
        found = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name in (*_OF_TOKENS, "consistency")
            and getattr(self, field.name) != field.default
        }
        if self.teacher is not None:
            options = {name: getattr(self, name) for name in _OF_LOGITS}
            found |= {"teacher": sha256_of(self.teacher), **options}
        return found


NO_TERMS = Terms()
