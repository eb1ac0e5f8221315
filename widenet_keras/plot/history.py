"""Curves of a training run."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from widenet_keras.plot.figure import EXPERT_COLORS, load_matplotlib, written

_COLORS = EXPERT_COLORS[0], EXPERT_COLORS[5], EXPERT_COLORS[2]


def plot_history(
    history: Mapping[str, Sequence[float]],
    path: str | os.PathLike | None = None,
    validation_freq: int | Sequence[int] | None = None,
) -> Any:
    """Draws the curves of a training run: losses, accuracy, routing.

    Args:
        history: The `history` dict of what `model.fit` returns. A column may have NaN
            for epochs without a value instead of leaving them out.
        path: Where to write a PNG; None writes none.
        validation_freq: Epochs from one validation to the next, as `fit` was told;
            None takes it from the number of values, which is right where it divides
            the number of epochs.

    Returns:
        The matplotlib figure.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    figure_class = load_matplotlib()
    panels = [
        ("loss", ("loss", "task_loss", "val_loss")),
        ("accuracy", ("accuracy", "val_accuracy")),
        ("routing", ("utilization", "dropped_fraction", "dead_experts")),
    ]
    panels = [
        (title, [name for name in names if name in history]) for title, names in panels
    ]
    panels = [(title, names) for title, names in panels if names]
    if not panels:
        raise ValueError(
            f"plot_history: nothing to draw in {sorted(history)}; give "
            "the `history` of what model.fit() returned."
        )
    figure = figure_class(figsize=(4 * len(panels), 3.2))
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axis, (title, names) in zip(axes, panels, strict=True):
        for name, color in zip(names, _COLORS, strict=False):
            values = np.asarray(history[name], float)
            every = 1
            if len(values) < len(history["loss"]):
                every = validation_freq or len(history["loss"]) // len(values)
            epochs, taken = every * np.arange(1, len(values) + 1), np.isfinite(values)
            axis.plot(epochs[taken], values[taken], color=color, label=name)
        axis.set_title(title)
        axis.set_xlabel("epoch")
        # No epoch 1.5, also where there are two.
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.legend(fontsize=8)
        axis.grid(alpha=0.3)
    return written(figure, path)
