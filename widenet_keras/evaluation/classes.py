"""How each class fares, and what it is taken for."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class ClassResult:
    """The images of one class.

    Attributes:
        name: Name of the class.
        count: Its images.
        accuracy: Fraction of them that are recognised (recall); None without
            images.
        precision: Fraction of the images taken for this class that are of it;
            None if no image was.
        confused_with: Name of the class that its images are most often mistaken
            for, the first of several; None without mistakes.
        confused: How many of its images that are.
    """

    name: str
    count: int
    accuracy: float | None
    precision: float | None
    confused_with: str | None
    confused: int


def class_results(outcomes, class_names):
    """Returns a `ClassResult` for every class, in order.

    Args:
        outcomes: `Outcomes`.
        class_names: One name per class.
    """
    classes = len(class_names)
    # One row of the confusion matrix at a time: with many classes it is large.
    order = np.argsort(outcomes.labels, kind="stable")
    ends = np.searchsorted(outcomes.labels[order], np.arange(classes + 1))
    taken_for = np.bincount(outcomes.predicted, minlength=classes)
    results = []
    for index, name in enumerate(class_names):
        mine = outcomes.predicted[order[ends[index] : ends[index + 1]]]
        row = np.bincount(mine, minlength=classes)
        right = int(row[index])
        row[index] = 0
        worst = int(row.argmax())
        confused = int(row[worst])
        results.append(
            ClassResult(
                name=name,
                count=len(mine),
                accuracy=right / len(mine) if len(mine) else None,
                precision=right / int(taken_for[index]) if taken_for[index] else None,
                confused_with=class_names[worst] if confused else None,
                confused=confused,
            )
        )
    return tuple(results)
