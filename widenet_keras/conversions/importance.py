"""How much the loss of a model moves with parts of it: gradients that a `fit` has."""

import math
import warnings
from collections.abc import Callable, Mapping

import keras
import numpy as np

from widenet_keras.conversions.merge import has_banks, without_banks
from widenet_keras.conversions.remade import check_model
from widenet_keras.models.needs_classes import check_has_classes
from widenet_keras.models.weights import check_plain
from widenet_keras.routing.random_draws import SILENT
from widenet_keras.training.image_classifier import ImageClassifier
from widenet_keras.training.saliency import Saliency
from widenet_keras.utils.progress import Progress
from widenet_keras.utils.roles import GROUPS


def check_classifier(owner: str, model: object):
    """Raises `ValueError` unless something is a classifier of floats.

    Args:
        owner: Who asks, for the message.
        model: Anything.
    """
    check_model(owner, model)
    if not isinstance(model, ImageClassifier):
        raise ValueError(
            f"{owner}: a {type(model).__name__} is not trained by itself; give an "
            "ImageClassifier."
        )
    check_has_classes(owner, model)
    check_plain(owner, model)


def importance(
    model: ImageClassifier,
    sets: Mapping[object, Mapping[str, Callable]],
    measure: Callable,
    group: str,
    images: object,
    labels: object = None,
    batch_size: int = 32,
    loss: object = "auto",
) -> dict[object, np.ndarray]:
    """Returns what `Saliency` has of sets of parts, each an array, by their names.

    The loss is the task's, of what inference computes, whatever the model was trained
    with; the model stays as it is.

    Args:
        model: An `ImageClassifier` as `check_classifier` wants it.
        sets: As for `Saliency`.
        measure: As for `Saliency`.
        group: Group of all weights in `sets`, one of `GROUPS`.
        images: (N, height, width, channels), or what else `fit` takes.
        labels: As `loss` takes them; None if the images have them.
        batch_size: Images per batch.
        loss: As for `ImageClassifier.compile`.

    Raises:
        ValueError: If images and labels do not fit the model, or never end.
    """
    _check_ends(images)
    if has_banks(model.config):
        model = without_banks(model)
    looked_at = model.adapted(
        dtype="float32",
        dropout=0.0,
        attention_dropout=0.0,
        stochastic_depth=0.0,
        router_noise=0.0,
        capacity_factor=None,
        balance_loss_weight=0.0,
        router_z_loss_weight=0.0,
        nested_widths=(),
        nested_probabilities=None,
        pieces=[each.without_dropout() for each in model.config.pieces],
        frozen=tuple(each for each in GROUPS if each != group),
    )
    # Tokens that attend in groups have the order of inference too.
    looked_at.encoder.draws = lambda training: SILENT
    saliency = Saliency(sets, measure)
    looked_at.compile(saliency, loss=loss, metrics=None)
    size = {} if labels is None else {"batch_size": batch_size}
    with warnings.catch_warnings():
        # A generator ends, as it shall.
        warnings.filterwarnings("ignore", message="Your input ran out of data")
        looked_at.fit(
            images, labels, verbose=0, shuffle=False, callbacks=[_Says()], **size
        )
    return saliency.mean()


def _check_ends(images):
    """Raises `ValueError` for a data set that is known to have no end."""
    if isinstance(images, keras.utils.PyDataset):
        batches = images.num_batches
        endless = batches is None or batches == math.inf
        remedy = "give it a length"
    else:
        # Of `tf.data`, which gives -1 for those.
        known = hasattr(images, "element_spec") and hasattr(images, "cardinality")
        endless = known and int(images.cardinality()) == -1
        remedy = "use .take(n) for so many batches"
    if endless:
        raise ValueError(f"The data set of images never ends; {remedy}.")


class _Says(keras.callbacks.Callback):
    """Says how many batches were looked at, where that takes long."""

    def on_train_begin(self, logs=None):
        self.progress = Progress("looking at batches", self.params["steps"] or "?")

    def on_train_batch_end(self, batch, logs=None):
        self.progress.add()
