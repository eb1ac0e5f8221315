"""Evaluating a classifier on batches of labelled images."""

import sys
import time
from collections.abc import Iterable, Sequence

import keras
import numpy as np

from widenet_keras.data.broken_images import broken_image_message
from widenet_keras.data.pixels import check_values
from widenet_keras.evaluation.calibration import calibration_bins, calibration_error
from widenet_keras.evaluation.classes import class_results
from widenet_keras.evaluation.confusion import confusion_matrix
from widenet_keras.evaluation.forward import ForwardPass
from widenet_keras.evaluation.outcomes import Outcomes
from widenet_keras.evaluation.result import Evaluation, Throughput
from widenet_keras.evaluation.routing import RoutingCounter
from widenet_keras.models.image_checks import check_images, check_labels
from widenet_keras.models.needs_classes import check_has_classes
from widenet_keras.models.widenet import WideNet
from widenet_keras.utils.plain_errors import plain_errors

# With fewer classes the true one is almost always among the first five.
_FEWEST_FOR_TOP5 = 6


def evaluate_classifier(
    model: WideNet,
    batches: Iterable,
    class_names: Sequence[str] | None = None,
    progress: bool = True,
) -> Evaluation:
    """Returns how a classifier does on batches of images and labels.

    ```python
    evaluation = evaluate_classifier(model, [(x_test, y_test)])
    print(evaluation.to_markdown())
    evaluation.plot("evaluation.png")
    ```

    Every image counts the same, also in a last, smaller batch, and no result
    depends on how the images are batched.

    Args:
        model: An `ImageClassifier`; need not be compiled.
        batches: Iterable of (images, labels): images (B, height, width, channels)
            float in [-1, 1]; labels (B,) whole numbers or (B, classes) one-hot.
            Arrays or tensors; a `PyDataset` is read once.
        class_names: A name for each class; None takes those of the model, or numbers
            where it has none.
        progress: Whether to print a progress bar.

    Returns:
        An `Evaluation`.

    Raises:
        ValueError: If there are no images, one cannot be read, or images, labels
            or names do not fit the model.
    """
    start = time.perf_counter()
    check_has_classes("evaluate", model)
    config = model.config
    class_names = model.class_names if class_names is None else class_names
    names = _names(class_names, config.num_classes)
    forward = ForwardPass(model)
    counter = RoutingCounter(config) if config.routed_steps else None
    found, timings = [], []
    with _Progress(batches, progress) as bar:
        for images, labels in _checked(batches, config):
            began = time.perf_counter()
            results = forward.of_batch(images)
            timings.append((len(images), time.perf_counter() - began))
            found.append(Outcomes.of_batch(results["logits"], labels))
            if counter is not None:
                counter.add(results["experts"], results["gates"])
            bar.add(found[-1])
    if not found:
        raise ValueError(
            "There are no images to evaluate on; give at least one batch of images "
            "and labels."
        )
    outcomes = Outcomes.joined(found)
    bins = calibration_bins(outcomes)
    return Evaluation(
        count=len(outcomes.labels),
        top1=outcomes.top(1),
        top5=outcomes.top(5) if config.num_classes >= _FEWEST_FOR_TOP5 else None,
        nll=float(outcomes.loss.mean()),
        calibration_error=calibration_error(bins),
        bins=bins,
        classes=class_results(outcomes, names),
        confusion=confusion_matrix(outcomes, config.num_classes),
        routing=None if counter is None else counter.statistics(),
        throughput=Throughput(
            backend=keras.backend.backend(),
            batch_size=forward.batch_size,
            images_per_second=_speed(timings),
            seconds=time.perf_counter() - start,
        ),
    )


def _names(class_names, classes):
    """Returns one name per class."""
    if class_names is None:
        return [str(index) for index in range(classes)]
    if len(class_names) != classes:
        raise ValueError(
            f"There are {len(class_names)} class names and the model has "
            f"num_classes={classes}; give one name per class."
        )
    return [str(name) for name in class_names]


def _checked(batches, config):
    """Yields images and whole-number labels as NumPy arrays, checked."""
    if isinstance(batches, keras.utils.PyDataset):
        batches = map(batches.__getitem__, range(batches.num_batches))
    for batch in _with_plain_errors(batches):
        if not isinstance(batch, tuple | list) or len(batch) != 2:
            raise ValueError(
                "A batch is a pair of images and labels; what came is a "
                f"{type(batch).__name__}."
            )
        images, labels = map(_numpy, batch)
        check_images(images, config.image_shape)
        check_values(images)
        if len(images) != len(labels):
            raise ValueError(
                f"A batch has {len(images)} images and {len(labels)} labels; give one "
                "label per image."
            )
        if len(images):
            yield images, _whole_numbers(labels, config.num_classes)


def _with_plain_errors(batches):
    """Yields the batches; an image that cannot be read becomes one line."""
    with plain_errors(broken_image_message):
        yield from batches


def _numpy(values):
    """Returns an array or a tensor of any backend as NumPy."""
    if keras.ops.is_tensor(values):
        return keras.ops.convert_to_numpy(values)
    return np.asarray(values)


def _whole_numbers(labels, classes):
    """Returns labels (B,) int of labels (B,), (B, 1) or one-hot (B, classes)."""
    check_labels(labels, classes)
    if labels.ndim == 2 and labels.shape[1] > 1:
        if not ((labels == 0) | (labels == 1)).all() or (labels.sum(axis=1) != 1).any():
            raise ValueError(
                "The labels are mixed or smoothed and an evaluation needs one true "
                "class per image; turn off mixing and smoothing."
            )
        return labels.argmax(axis=1)
    whole = labels.reshape(len(labels), -1).astype("int64")
    if whole.shape[1] != 1 or (whole[:, 0] != labels.reshape(-1)).any():
        raise ValueError(
            f"The labels have shape {labels.shape} and dtype {labels.dtype}; give one "
            "whole number per image, or one column per class."
        )
    return whole[:, 0]


def _speed(timings):
    """Returns images per second of the full batches after the first of them."""
    size = max(images for images, _ in timings)
    later = [each for each in timings if each[0] == size][1:]
    if not later:
        return None
    images, seconds = map(sum, zip(*later, strict=True))
    return images / seconds


def _length(batches):
    """Returns the number of batches, or None if it is not known."""
    if isinstance(batches, keras.utils.PyDataset):
        return batches.num_batches
    try:
        return len(batches)
    except TypeError:
        return None


class _Progress:
    """A progress bar with the accuracy so far."""

    def __init__(self, batches, shown):
        self.bar = keras.utils.Progbar(
            _length(batches),
            verbose=int(shown),
            # Without a terminal every update is a new line.
            interval=0.05 if sys.stdout.isatty() else 10.0,
            stateful_metrics=["accuracy"],
            unit_name="batch",
        )
        self.done = self.right = self.images = 0

    def __enter__(self):
        return self

    def add(self, outcomes):
        """Counts one batch."""
        self.done += 1
        self.right += int((outcomes.rank == 0).sum())
        self.images += len(outcomes.rank)
        self._update(finalize=False)

    def __exit__(self, kind, *_):
        if kind is None and self.done:
            self._update(finalize=True)

    def _update(self, finalize):
        values = [("accuracy", self.right / self.images)]
        self.bar.update(self.done, values, finalize=finalize)
