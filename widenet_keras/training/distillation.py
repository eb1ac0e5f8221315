"""Distillation: a model learns the answers of another one, its teacher."""

from typing import Any, Literal

import keras
from keras import ops

from widenet_keras.models.class_names import listed, same_classes
from widenet_keras.models.widenet import WideNet
from widenet_keras.training.on_logits import labels_kind
from widenet_keras.training.teachers import Taught
from widenet_keras.training.terms import divergence, mean_over_images
from widenet_keras.utils.checks import check_choice, check_fraction, check_positive


class Distillation(Taught):
    """A term: the answers of a teacher, on the images that the model is trained on.

    ```python
    teacher = widenet_keras.load_model("vit.keras", compile=False)
    model.compile(terms=[widenet_keras.Distillation(teacher, alpha=0.9)])
    ```

    "soft" is alpha * temperature^2 * KL(teacher || model) of the class probabilities
    at that temperature, "hard" alpha * cross-entropy with the class that the teacher
    finds; the task loss is multiplied with 1 - alpha. The teacher answers as it does
    at inference, for images that are augmented and mixed as the model sees them. It
    is not trained, does not change, and no file of the model has it.
    Source: "Distilling the Knowledge in a Neural Network" (arXiv 1503.02531).

    Over several devices the teacher is made inside `distribution.scope()`, as the
    model is.

    Args:
        teacher: An `ImageClassifier`, or a `WideNet`, of the same classes and for
            images of the same shape; may be int8.
        alpha: From 0 to 1: how much of the loss is the teacher's. Images weigh as in
            the task loss.
        temperature: Divides the logits of both, for "soft".
        kind: "soft" or "hard".

    Raises:
        ValueError: If one of them is wrong; `compile` raises where the teacher does
            not fit the model.
    """

    name = "distillation"

    def __init__(
        self,
        teacher: WideNet,
        alpha: float = 0.9,
        temperature: float = 1.0,
        kind: Literal["soft", "hard"] = "soft",
    ):
        super().__init__(teacher)
        check_options(self.owner, alpha, temperature, kind)
        self.alpha = float(alpha)
        self.temperature = float(temperature)
        self.kind = kind

    @property
    def task_factor(self) -> float:  # type: ignore[override]
        """What the task loss is multiplied with."""
        return 1.0 - self.alpha

    def check_teacher(self, model: keras.Model) -> None:
        """Raises `ValueError` unless the teacher has the classes of a model."""
        super().check_teacher(model)
        check_classes(self.teacher, model)

    def check(self, model: keras.Model, loss: Any) -> None:
        """Raises `ValueError` unless the teacher fits a model and its loss."""
        super().check(model, loss)
        if labels_kind(loss) == "yes or no":
            raise ValueError(
                "compile: Distillation compares probabilities of classes of which one "
                "is right, and the loss is binary cross-entropy; use another loss, or "
                "leave the term out."
            )

    def __call__(self, answer_of, sample_weight, first, again):
        """Returns the term of a batch, a scalar; see `Term`."""
        target = answer_of(self.teacher).logits
        if self.kind == "hard":
            labels = ops.argmax(target, axis=-1)
            losses = keras.losses.sparse_categorical_crossentropy(
                labels, first.logits, from_logits=True
            )
        else:
            cooled = (logits / self.temperature for logits in (target, first.logits))
            losses = self.temperature**2 * divergence(*cooled)
        return self.alpha * mean_over_images(losses, sample_weight)


def check_options(owner: str, alpha: float, temperature: float, kind: str):
    """Raises `ValueError` unless these are as `Distillation` takes them.

    Args:
        owner: Who asks, for the message.
        alpha: From 0 to 1.
        temperature: Over 0.
        kind: "soft" or "hard".
    """
    check_fraction(owner, "alpha", alpha)
    check_positive(owner, "temperature", temperature)
    check_choice(owner, "kind", kind, ("soft", "hard"))
    if kind == "hard" and temperature != 1.0:
        raise ValueError(
            f"{owner}: temperature={temperature!r} means nothing where kind='hard'; "
            "leave it out, or use kind='soft'."
        )


def check_classes(teacher: WideNet, model: WideNet):
    """Raises `ValueError` unless a teacher knows the classes of a model.

    Args:
        teacher: A `WideNet` or `ImageClassifier`.
        model: The one that learns from it.
    """
    found, wanted = teacher.config.num_classes, model.config.num_classes
    if found != wanted:
        raise ValueError(
            f"Distillation: the teacher has {found} classes and the model {wanted}; "
            "give a teacher of the same classes."
        )
    ours, names = model.class_names, teacher.class_names
    if ours is None or names is None or ours == names:
        return
    if same_classes(ours, names):
        raise ValueError(
            f"Distillation: the teacher's classes are {listed(names)} and the model "
            f"has them in another order, {listed(ours)}; before the model is trained "
            "set model.class_names = teacher.class_names, or give another teacher."
        )
    raise ValueError(
        f"Distillation: the teacher's classes are {listed(names)} and the model's "
        f"{listed(ours)}; give a teacher of the same classes."
    )
