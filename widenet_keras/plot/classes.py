"""Which classes use which experts."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from widenet_keras.plot.figure import (
    PANELS_IN_A_ROW,
    color_names,
    load_matplotlib,
    panels_of_steps,
    short,
    written,
)

_MOST_CLASSES = 40
# The label of the colours is so long.
_LEAST_INCHES = 2.3


def plot_class_experts(
    routing: Any,
    labels: np.ndarray,
    class_names: Sequence[str] | None = None,
    path: str | os.PathLike | None = None,
) -> Any:
    """Draws how much more, or less, each class uses an expert than all images do.

    A panel per mixture-of-experts step, a row per class, a column per expert. 1.0
    is as often as all images together, 2.0 twice as often. Of more than 40 classes
    those 40 are drawn that differ most from all images.

    Args:
        routing: A `RoutingMap`, as `model.routing(images)` returns it.
        labels: (B,) whole number, the class of each image of the map.
        class_names: A name for each class; None numbers them.
        path: Where to write a PNG; None writes none.

    Returns:
        The matplotlib figure.

    Raises:
        ImportError: If matplotlib is not installed.
        ValueError: If labels do not fit the map, or names the labels.
    """
    usage, present = class_usage(routing, labels)
    names = [str(each) for each in range(max(present) + 1)]
    if class_names is not None:
        if len(class_names) < len(names):
            raise ValueError(
                f"plot_class_experts: {len(class_names)} class names and the label "
                f"{max(present)}; give one name per class."
            )
        names = [short(name) for name in class_names]
    figure_class = load_matplotlib()
    from matplotlib.colors import TwoSlopeNorm

    drawn = deviating_most(usage, _MOST_CLASSES)
    usage, present = usage[:, drawn], [present[place] for place in drawn]
    steps, _, experts = usage.shape
    columns = min(steps, PANELS_IN_A_ROW)
    rows = -(-steps // columns)
    figure = figure_class(
        figsize=(
            min(0.45 * experts, 4.0) * columns + 2.6,
            max((0.26 * len(present) + 0.7) * rows, _LEAST_INCHES),
        ),
    )
    panels = panels_of_steps(figure, steps)
    norm = TwoSlopeNorm(1.0, 0.0, max(2.0, float(usage.max())))
    ticks = range(0, experts, -(-experts // 16))
    for axis, step, of_step in zip(panels, routing.steps, usage, strict=True):
        mesh = axis.imshow(of_step, aspect="auto", cmap="RdBu_r", norm=norm)
        axis.set_title(f"step {step}", fontsize=9)
        axis.set_xticks(ticks, ticks)
        drawn = [names[each] for each in present]
        axis.set_yticks(range(len(present)), drawn, parse_math=False)
        axis.tick_params(labelsize=8)
        color_names(axis.get_xticklabels(), experts)
    figure.supxlabel("expert", fontsize=9)
    figure.colorbar(mesh, ax=list(panels), label="use, over that of all images")
    return written(figure, path)


def deviating_most(usage, count):
    """Returns the places of the `count` classes farthest from 1.0, in their order.

    Args:
        usage: (S, classes, E) as `class_usage` returns it.
        count: How many; all if there are fewer.
    """
    distance = np.abs(usage - 1.0).mean(axis=(0, 2))
    return np.sort(np.argsort(-distance, kind="stable")[:count])


def class_usage(routing, labels):
    """Returns each class's use of each expert, over that of all images.

    Args:
        routing: A `RoutingMap`.
        labels: (B,) whole number, the class of each image.

    Returns:
        A pair: (S, number of classes that are there, E) ratios, 1.0 for an expert
        that nobody uses; and the list of these classes.

    Raises:
        ValueError: If there is not one label, a whole number, per image of the map.
    """
    labels = np.asarray(labels)
    whole = labels.dtype.kind in "iu" and (labels >= 0).all()
    if labels.shape != (routing.count,) or not whole:
        raise ValueError(
            f"plot_class_experts: {labels.dtype} labels of shape {labels.shape}, map "
            f"of {routing.count} images; give one whole number from 0 per image."
        )
    chosen = routing.experts[..., None] == np.arange(routing.num_experts)
    # (S, B, E): every image has the same number of choices.
    of_images = chosen.mean(axis=(2, 3))
    present = np.unique(labels)
    of_classes = np.stack(
        [of_images[:, labels == each].mean(axis=1) for each in present], axis=1
    )
    of_all = of_images.mean(axis=1)[:, None]
    usage = np.divide(
        of_classes, of_all, out=np.ones_like(of_classes), where=of_all > 0
    )
    return usage, present.tolist()
