"""An evaluation as one picture."""

import numpy as np

from widenet_keras.evaluation.confusion import draw_mistakes, inches
from widenet_keras.plot.figure import (
    EXPERT_COLORS,
    load_matplotlib,
    short,
    written,
)
from widenet_keras.plot.load import draw_load, load_inches

# More classes than this are drawn as a curve, without their names.
_MOST_BARS = 40
_BLUE, _ORANGE = EXPERT_COLORS[0], EXPERT_COLORS[5]


def draw(evaluation, path=None):
    """Draws an evaluation: reliability, accuracy per class, mistakes, experts' load.

    Args:
        evaluation: An `Evaluation`.
        path: Where to write a PNG; None writes none.

    Returns:
        The matplotlib figure.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    figure_class = load_matplotlib()
    routing = evaluation.routing
    # Names of many classes need room beside each other.
    width = 8 if len(evaluation.classes) <= 25 else 10
    heights = [3.4, inches(evaluation)] + (
        [] if routing is None else [load_inches(routing)]
    )
    figure = figure_class(figsize=(width, sum(heights)))
    top, middle, *bottom = figure.subfigures(len(heights), 1, height_ratios=heights)
    left, right = top.subplots(1, 2)
    _draw_reliability(left, evaluation)
    _draw_classes(right, evaluation)
    draw_mistakes(middle.subplots(), evaluation)
    for part in bottom:
        draw_load(part, routing, "all images")
    return written(figure, path)


def _draw_reliability(axis, evaluation):
    """Draws accuracy over confidence; on the diagonal a model knows itself."""
    bins = evaluation.bins
    edges = [each.low for each in bins] + [1.0]
    axis.bar(
        edges[:-1],
        [each.accuracy or 0.0 for each in bins],
        1 / len(bins),
        align="edge",
        color=_BLUE,
        edgecolor="white",
        alpha=0.7,
        label="accuracy",
    )
    shares = [each.count / evaluation.count for each in bins]
    axis.stairs(shares, edges, color=_ORANGE, label="share of the images")
    axis.plot([0, 1], [0, 1], color="black", linewidth=1, linestyle="--")
    axis.set_xlim(0, 1)
    axis.set_ylim(0, 1)
    axis.set_xlabel("confidence")
    axis.set_title(f"calibration error {100 * evaluation.calibration_error:.2f} %")
    axis.legend(fontsize=8, loc="upper left")


def _draw_classes(axis, evaluation):
    """Draws the accuracy of each class; of many classes, sorted, as a curve."""
    seen = [each for each in evaluation.classes if each.count]
    accuracy = [each.accuracy for each in seen]
    if len(seen) <= _MOST_BARS:
        axis.bar(range(len(seen)), accuracy, color=_BLUE)
        names = [short(each.name) for each in seen]
        turned = max(map(len, names)) * len(names) > 60
        axis.set_xticks(
            range(len(seen)),
            names,
            rotation=90 if turned else 0,
            fontsize=8 if len(seen) <= 25 else 6,
            parse_math=False,
        )
    else:
        axis.plot(np.sort(accuracy), color=_BLUE)
        axis.set_xlabel("classes, the hardest first")
    axis.axhline(evaluation.top1, color="black", linewidth=1, linestyle="--")
    axis.set_ylim(0, 1)
    axis.set_ylabel("accuracy")
    axis.set_title(f"accuracy per class, {100 * evaluation.top1:.2f} % in all")
