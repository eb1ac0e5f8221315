"""Pictures of who did the work: the load of every expert at every step."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from widenet_keras.plot.figure import (
    PANELS_IN_A_ROW,
    expert_colors,
    label_experts,
    load_matplotlib,
    panels_of_steps,
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
    width = max(4.0, 0.6 * len(routing.steps) + 2.0)
    figure = figure_class(figsize=(width, 2.8), layout="constrained")
    draw_load(figure, routing)
    if path is not None:
        figure.savefig(path, dpi=120)
    return figure


def draw_load(figure: Any, routing: Any) -> None:
    """Draws the step-by-expert load map with its numbers.

    Args:
        figure: An empty figure of matplotlib.
        routing: `RoutingMap`, as `model.routing(images)` returns it.
    """
    colors = expert_colors(routing.num_experts)
    load = routing.load()
    axis = figure.subplots()
    mesh = axis.imshow(load.T, aspect="auto", cmap="viridis", vmin=0)
    axis.set_xlabel("step")
    axis.set_ylabel("expert")
    axis.set_xticks(range(len(routing.steps)), routing.steps)
    axis.set_yticks(range(routing.num_experts))
    for tick, expert in zip(
        axis.get_yticklabels(), range(routing.num_experts), strict=True
    ):
        tick.set_color(colors(expert % colors.N))
        tick.set_fontweight("bold")
    if load.size <= 256:
        for step, expert in np.ndindex(*load.shape):
            axis.text(
                step,
                expert,
                f"{load[step, expert]:.2f}",
                ha="center",
                va="center",
                color="black" if load[step, expert] > 0.6 * load.max() else "white",
                fontsize=8,
            )
    fair = 1 / routing.num_experts
    figure.colorbar(mesh, ax=axis, label=f"fraction of choices (fair: {fair:.2f})")


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
    figure = figure_class(
        figsize=(max(4.0, 1.9 * columns), 1.7 * rows + 0.4), layout="constrained"
    )
    panels = panels_of_steps(figure, len(steps))
    for place, (axis, step) in enumerate(zip(panels, steps, strict=True)):
        # One epoch has no width: it is drawn as a band around it.
        drawn = np.repeat(epochs, 2) + np.tile([-0.5, 0.5], len(epochs))
        axis.stackplot(
            drawn,
            np.repeat(loads[:, place], 2, axis=0).T,
            colors=[colors(expert % colors.N) for expert in range(experts)],
            alpha=0.85,
        )
        for share in range(1, experts):
            axis.axhline(share / experts, color="white", linewidth=0.8, linestyle=":")
        axis.set_title(f"step {step}", fontsize=9)
        axis.set_ylim(0, 1)
        axis.set_xlim(drawn[0], drawn[-1])
    for axis in panels[-columns:]:
        axis.set_xlabel("epoch", fontsize=9)
    for axis in panels[::columns]:
        axis.set_ylabel("of the choices", fontsize=9)
    label_experts(figure, experts)
    if path is not None:
        figure.savefig(path, dpi=120)
    return figure
