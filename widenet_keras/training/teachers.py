"""Teachers: models that terms of the objective ask, each once for a batch."""

import functools
from collections.abc import Callable, Iterable
from typing import Any

import keras
from keras import ops

from widenet_keras.models.widenet import WideNet
from widenet_keras.training.terms import Forward, Term, looking
from widenet_keras.utils import numerics
from widenet_keras.utils.trees import mapped


class Taught(Term):
    """A term that compares the model with another one, its teacher.

    Args:
        teacher: An `ImageClassifier`, or a `WideNet`, for images of the same shape;
            may be int8.

    Raises:
        ValueError: If it is none.
    """

    def __init__(self, teacher: WideNet):
        if not isinstance(teacher, WideNet):
            raise ValueError(
                f"{self.owner}: the teacher is a {type(teacher).__name__}; give an "
                "ImageClassifier, such as widenet_keras.load_model(path)."
            )
        self.teacher = teacher

    @property
    def owner(self) -> str:
        """Name that starts messages."""
        return type(self).__name__

    @property
    def variables(self) -> list[keras.Variable]:  # type: ignore[override]
        """The variables of the teacher."""
        return self.teacher.variables

    def check(self, model: keras.Model, loss: Any) -> None:
        """Raises `ValueError` unless the teacher fits a model; see `Term`."""
        self.check_teacher(model)

    def check_teacher(self, model: WideNet) -> None:
        """Raises `ValueError` unless the teacher takes the images of a model.

        Args:
            model: The one that learns.
        """
        owner, teacher = self.owner, self.teacher
        mine, theirs = model.config, teacher.config
        # Such a model has no copy but that in its file, and no other size.
        is_int8 = teacher.quantization is not None
        known = {id(variable) for variable in model.variables}
        if any(id(variable) in known for variable in teacher.variables):
            copy = "load_model() of its file" if is_int8 else "teacher.adapted()"
            raise ValueError(
                f"{owner}: the teacher has weights of the model that learns from it; "
                f"give a copy, {copy}."
            )
        if theirs.channels != mine.channels:
            raise ValueError(
                f"{owner}: the teacher takes images of {theirs.channels} channels and "
                f"the model of {mine.channels}; give a teacher of the same channels."
            )
        if theirs.image_size != mine.image_size:
            resized = f"give teacher.with_image_size({mine.image_size})"
            if is_int8:
                resized = "resize the float teacher and quantise that"
            raise ValueError(
                f"{owner}: the teacher takes images of {theirs.image_size} pixels and "
                f"the model of {mine.image_size}; {resized}, or train the model at "
                f"{theirs.image_size}."
            )


def answers(terms: Iterable[Term], images: object) -> Callable[[WideNet], Forward]:
    """Returns a function of a teacher that gives its `Forward` of some images.

    However many terms ask for it, a teacher computes it once, as at inference and
    without gradients.

    Args:
        terms: All terms of the objective.
        images: (B, height, width, channels).
    """
    terms = [*terms]

    @functools.cache
    def answer_of(teacher):
        looks = any(term.looks for term in terms if term.teacher is teacher)
        look = looking(teacher, looks)
        with numerics.without_gradients():
            found = teacher(images, training=False, **look)
            logits, seen = found if look else (found, ())
            return Forward(*mapped(ops.stop_gradient, (logits, (), seen)))

    return answer_of
