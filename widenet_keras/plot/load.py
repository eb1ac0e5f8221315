"""Pictures of who did the work: the load of every expert at every step."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from widenet_keras.plot.figure import (
    PANELS_IN_A_ROW,
    color_names,
    expert_colors,
    ink_on,
    label_experts,
    legend_inches,
    load_matplotlib,
    panels_of_steps,
    written,
)


def plot_load(routing: Any, path: str | os.PathLike | None = None) -> Any:
    """Draws the load of every expert at every step, over all images of a map.

    Args:
        routing: A `RoutingMap`, as `model.routing(images)` returns it.
        path: Where to write a PNG; None writes none.

    Returns:
        The matplotlib figure.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    figure_class = load_matplotlib()
    width = max(5.0, 0.6 * len(routing.steps) + 2.0)
    figure = figure_class(figsize=(width, load_inches(routing)))
    draw_load(figure, routing, "")
    return written(figure, path)


def load_inches(routing: Any) -> float:
    """Returns how high the load map of some experts is; as for `draw_load`."""
    return 1.1 + 0.3 * routing.num_experts


def draw_load(figure: Any, routing: Any, of_what: str) -> None:
    """Draws the step-by-expert load map with its numbers.

    Args:
        figure: A matplotlib figure, or a part of one.
        routing: What has `load()`, `steps` and `num_experts`.
        of_what: Whose choices these are, for the title; not said if empty.
    """
    load, experts = routing.load(), routing.num_experts
    axis, fair = figure.subplots(), 1 / experts
    # White for no work, the expert's own colour for twice its share or the most.
    most = max(2 * fair, float(load.max()))
    colors = expert_colors(experts)
    own = colors(np.arange(experts) % colors.N)[:, None, :3]
    tints = 1 - (1 - own) * (load.T / most)[..., None]
    axis.imshow(tints, aspect="auto")
    of_what = of_what and f" of {of_what}"
    axis.set_title(
        f"fraction of the choices{of_what} that each expert got ({fair:.2f} is fair)",
        fontsize=9,
    )
    axis.set_xlabel("step", fontsize=9)
    axis.set_ylabel("expert", fontsize=9)
    axis.set_xticks(range(len(routing.steps)), routing.steps)
    axis.set_yticks(range(experts), range(experts))
    color_names(axis.get_yticklabels(), experts)
    axis.tick_params(labelsize=9)
    axis.tick_params(axis="y", length=0, pad=6)
    if load.size <= 256:
        for step, expert in np.ndindex(*load.shape):
            axis.text(
                step,
                expert,
                f"{load[step, expert]:.2f}",
                ha="center",
                va="center",
                color=ink_on(tints[expert, step]),
                fontsize=9,
            )


def plot_load_history(
    epochs: Sequence[int],
    steps: Sequence[int],
    loads: np.ndarray,
    path: str | os.PathLike | None = None,
) -> Any:
    """Draws how the load of the experts changed while a model was trained.

    A panel per mixture-of-experts step: the fractions of its choices that went to
    each expert, one above the other, over the epochs.

    Args:
        epochs: (N,) the epochs.
        steps: (S,) index of each step in the encoder.
        loads: (N, S, E) fraction of the choices of each step, as `RoutingMap.load`
            returns them after each epoch.
        path: Where to write a PNG; None writes none.

    Returns:
        The matplotlib figure.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    figure_class = load_matplotlib()
    loads = np.asarray(loads)
    experts = loads.shape[2]
    colors = expert_colors(experts)
    columns = min(len(steps), PANELS_IN_A_ROW)
    rows = -(-len(steps) // columns)
    width = max(4.0, 1.9 * columns)
    height = 1.7 * rows + 0.4 + legend_inches(experts, width)
    figure = figure_class(figsize=(width, height))
    panels = panels_of_steps(figure, len(steps))
    for place, (axis, step) in enumerate(zip(panels, steps, strict=True)):
        # One epoch has no width: it is drawn as a band around it.
        drawn = np.repeat(epochs, 2) + np.tile([-0.5, 0.5], len(epochs))
        axis.stackplot(
            drawn,
            np.repeat(loads[:, place], 2, axis=0).T,
            colors=[colors(expert % colors.N) for expert in range(experts)],
        )
        for share in range(1, experts):
            axis.axhline(share / experts, color="white", linewidth=0.8, linestyle=":")
        axis.set_title(f"step {step}", fontsize=9)
        axis.set_ylim(0, 1)
        axis.set_xlim(drawn[0], drawn[-1])
        # No epoch 1.5, also where there are one or two.
        axis.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    for axis in panels[-columns:]:
        axis.set_xlabel("epoch", fontsize=9)
    for axis in panels[::columns]:
        axis.set_ylabel("of the choices", fontsize=9)
    label_experts(figure, experts)
    return written(figure, path)
