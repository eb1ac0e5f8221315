"""Terms of the objective: what `compile(terms=...)` adds to the loss of a batch."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import keras
from keras import ops


class Forward(NamedTuple):
    """A forward pass of the model in training, or of a teacher.

    Attributes:
        logits: (B, classes) float32.
        record: `RoutingRecord` of the global batch, or `()` without experts.
        seen: `Seen` of the last step, (1, ...), where a term looks at it, or `()`.
    """

    logits: object
    record: object
    seen: object = ()


def looking(model: keras.Model, looks: bool = True) -> dict:
    """Returns the options of a call of a model that is seen in its last step.

    Args:
        model: A `WideNet`.
        looks: Whether it is seen; without, a call has no such options.
    """
    return {"look_at": (model.config.steps - 1,)} if looks else {}


class Term:
    """Something to minimise beside the task loss; no layer, and never saved.

    loss = product of all `task_factor` * task loss + auxiliary losses + sum of the
    terms. It is reported as "<name>_loss".

    Attributes:
        name: Of which a model has one term.
        task_factor: What the task loss is multiplied with.
        looks: Whether it reads what the last step of the depth computed with.
        teacher: The `WideNet` whose answers it reads, or None.
        variables: Keras variables that are read and are not the model's.
    """

    name = "term"
    task_factor: float = 1.0
    looks = False
    teacher: Any = None
    variables: Sequence[keras.Variable] = ()

    def check(self, model: keras.Model, loss: object) -> None:
        """Raises `ValueError` if it does not fit a model or its loss.

        Args:
            model: The `ImageClassifier` that is compiled.
            loss: What `loss_on_logits` returned.
        """

    def __call__(
        self,
        answer_of: Callable,
        sample_weight,
        first: Forward,
        again: Callable[[], Forward],
    ):
        """Returns the term, a scalar, as `mean_over_images` has it.

        Args:
            answer_of: Function of a teacher; gives its `Forward` of the images that
                the model has seen, as `answers` makes it.
            sample_weight: (B,) or None.
            first: The forward pass that the task loss is of.
            again: Makes another one, with new draws.
        """
        raise NotImplementedError


def checked_terms(terms: object, model: keras.Model, loss: object) -> tuple[Term, ...]:
    """Returns terms as a tuple.

    Args:
        terms: Terms of the objective.
        model: The `ImageClassifier` that is compiled.
        loss: What `loss_on_logits` returned.

    Raises:
        ValueError: If one is none, stands there twice or does not fit.
    """
    if isinstance(terms, Term) or not isinstance(terms, tuple | list):
        raise ValueError(
            f"compile: terms={terms!r} is no list; give one, such as "
            "terms=[widenet_keras.Consistency()]."
        )
    names = set()
    for term in terms:
        if not isinstance(term, Term):
            raise ValueError(
                f"compile: {term!r} in terms is no term; give Distillation(teacher) "
                "or Consistency()."
            )
        if term.name in names:
            raise ValueError(f"compile: terms has {term.name!r} twice; give one.")
        names.add(term.name)
        term.check(model, loss)
        model.check_devices(term)
    return tuple(terms)


def variables_of(terms: Iterable[Term]) -> list[keras.Variable]:
    """Returns the Keras variables that terms read beside the model's, each once.

    Args:
        terms: Terms of the objective.
    """
    found = {id(v): v for term in terms for v in term.variables}
    return [*found.values()]


def mean_over_images(values: object, sample_weight: object) -> object:
    """Returns the mean of what terms say of each image.

    An image of weight w counts w times, as it does in the task loss; the mean is over
    the number of images, whatever they weigh.

    Args:
        values: (B,) float32.
        sample_weight: (B,) or None.
    """
    if sample_weight is not None:
        weights = ops.cast(sample_weight, "float32")
        values = values * ops.reshape(weights, (-1,))
    return ops.mean(values)


def divergence(target: object, logits: object) -> object:
    """Returns KL(softmax(target) || softmax(logits)) of every image, (B,).

    Args:
        target: (B, classes) float32.
        logits: (B, classes) float32.
    """
    wanted, found = ops.log_softmax(target), ops.log_softmax(logits)
    return ops.sum(ops.exp(wanted) * (wanted - found), axis=-1)
