"""What classes are taken for, as counts and as a picture."""

import numpy as np

from widenet_keras.plot.figure import short

# Of more classes nobody can read a matrix, and its file is large.
MOST_CLASSES = 40
_MOST_NUMBERS = 15
_MOST_MISTAKES = 12


def confusion_matrix(outcomes, classes: int) -> tuple | None:
    """Returns how often each class was taken for each; None for many classes.

    Args:
        outcomes: `Outcomes`.
        classes: Number of classes.

    Returns:
        A tuple of rows, one per true class, of counts, one per predicted class.
    """
    if classes > MOST_CLASSES:
        return None
    pairs = outcomes.labels * classes + outcomes.predicted
    counts = np.bincount(pairs, minlength=classes**2).reshape(classes, classes)
    return tuple(map(tuple, counts.tolist()))


def inches(evaluation) -> float:
    """Returns how high the picture of the mistakes is to be."""
    if evaluation.confusion is None:
        return 3.2
    return 2.2 + max(2.0, 0.2 * len(evaluation.classes))


def draw_mistakes(axis, evaluation) -> None:
    """Draws the confusion matrix; of many classes the mistakes as text.

    Of each class the most frequent one counts, and the largest of these are drawn.

    Args:
        axis: A matplotlib axis.
        evaluation: An `Evaluation`.
    """
    if evaluation.confusion is None:
        _write_mistakes(axis, evaluation.classes)
    else:
        _draw_matrix(axis, np.array(evaluation.confusion), evaluation.classes)


def _draw_matrix(axis, counts, classes):
    from matplotlib.colors import PowerNorm

    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    # The root makes a few mistakes in a hundred visible beside what is right.
    axis.imshow(share, cmap="Blues", norm=PowerNorm(0.5, 0, 1))
    names, places = [short(each.name) for each in classes], range(len(classes))
    size = 8 if len(classes) <= 25 else 7
    # A name is no formula, whatever is in it.
    turned = 90 if max(map(len, names)) > 2 else 0
    axis.set_xticks(places, names, rotation=turned, fontsize=size, parse_math=False)
    axis.set_yticks(places, names, fontsize=size, parse_math=False)
    axis.set_xlabel("taken for")
    axis.set_ylabel("class")
    axis.set_title("what the images are taken for")
    if len(classes) > _MOST_NUMBERS:
        return
    for row, column in np.argwhere(counts):
        axis.text(
            column,
            row,
            f"{counts[row, column]}",
            ha="center",
            va="center",
            fontsize=8,
            color="white" if share[row, column] > 0.4 else "black",
        )


def _write_mistakes(axis, classes):
    axis.set_axis_off()
    axis.set_title("the most frequent mistakes, one of each class", loc="left")
    worst = sorted(classes, key=lambda each: -each.confused)[:_MOST_MISTAKES]
    lines = [
        f"{each.confused:,} of {each.count:,}  {short(each.name, 40)}  taken for  "
        f"{short(each.confused_with, 40)}"
        for each in worst
        if each.confused
    ]
    axis.text(
        0,
        1,
        "\n".join(lines) or "none",
        va="top",
        fontsize=9,
        linespacing=1.5,
        parse_math=False,
        transform=axis.transAxes,
    )
