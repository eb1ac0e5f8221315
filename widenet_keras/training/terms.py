"""Terms of the objective: what `compile(terms=...)` adds to the loss of a batch."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import keras
from keras import ops


class Forward(NamedTuple):
    """A forward pass of the model in training.

    Attributes:
        logits: (B, classes) float32.
        record: `RoutingRecord` of the global batch, or `()` without experts.
    """

    logits: object
    record: object


class Term:
    """Something to minimise beside the task loss; no layer, and never saved.

    loss = product of all `task_factor` * task loss + auxiliary losses + sum of the
    terms. It is reported as "<name>_loss".

    Attributes:
        name: Of which a model has one term.
        task_factor: What the task loss is multiplied with.
        variables: Keras variables that are read and are not the model's.
    """

    name = "term"
    task_factor = 1.0
    variables = ()

    def check(self, model: keras.Model, loss: object):
        """Raises `ValueError` if it does not fit a model or its loss.

        Args:
            model: The `ImageClassifier` that is compiled.
            loss: What `loss_on_logits` returned.
        """

    def __call__(
        self,
        images,
        sample_weight,
        first: Forward,
        again: Callable[[], Forward],
    ):
        """Returns the term, a scalar, as `mean_over_images` has it.

        Args:
            images: (B, height, width, channels), as the model has seen them.
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
