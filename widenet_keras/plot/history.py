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
        validation_freq: Epochs from one validation to the next, or a list of the
            epochs that end in one, as `fit` was told; None takes it from the number of
            values, which is right where it divides the number of epochs.

    Returns:
        The matplotlib figure.

    Raises:
        ImportError: If matplotlib is not installed.
        ValueError: If there is nothing to draw, or a column has more values than
            `validation_freq` names epochs.
    """
    figure_class = load_matplotlib()
    panels = [
        ("loss", ("loss", "task_loss", "val_loss")),
        ("accuracy", ("accuracy", "val_accuracy")),
        ("routing", ("utilization", "dropped_fraction", "dead_experts")),
    ]
    panels = [
        (title, [name for name in names if len(history.get(name, ()))])
        for title, names in panels
    ]
    panels = [(title, names) for title, names in panels if names]
    if not panels:
        raise ValueError(
            f"plot_history: nothing to draw in {sorted(history)}; give "
            "the `history` of what model.fit() returned."
        )
    count = max(len(history[name]) for _, names in panels for name in names)
    figure = figure_class(figsize=(4 * len(panels), 3.2))
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axis, (title, names) in zip(axes, panels, strict=True):
        for name, color in zip(names, _COLORS, strict=False):
            values = np.asarray(history[name], float)
            epochs = _epochs(len(values), count, validation_freq)
            taken = np.isfinite(values)
            # A line through one point is none.
            marker = "o" if taken.sum() == 1 else None
            axis.plot(
                epochs[taken], values[taken], color=color, label=name, marker=marker
            )
        axis.set_title(title)
        axis.set_xlabel("epoch")
        # No epoch 1.5, also where there are one or two.
        axis.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        axis.legend(fontsize=8)
        axis.grid(alpha=0.3)
    return written(figure, path)


def _epochs(values, count, validation_freq):
    """Returns the epochs of the values of a column, of `count` epochs in all."""
    if values == count:
        return np.arange(1, count + 1)
    if isinstance(validation_freq, Sequence):
        # As `fit` reads them: those of them that it came to, each once.
        epochs = np.unique(np.asarray(validation_freq, int))
    else:
        every = validation_freq or count // values
        # `fit` may have begun at a later epoch, of which a history knows nothing.
        epochs = every * np.arange(1, -(-count // every) + 1)
    if len(epochs) < values:
        raise ValueError(
            f"plot_history: validation_freq names {len(epochs)} epochs and there "
            f"are {values} values; give what fit was given."
        )
    return epochs[:values]
