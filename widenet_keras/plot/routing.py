"""Pictures of where the patches of images go, laid over the images."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from widenet_keras.plot.figure import expert_colors, label_experts, load_matplotlib
from widenet_keras.plot.load import draw_load

_MOST_STEPS = 12


def plot_routing(
    routing: Any,
    images: np.ndarray,
    index: int = 0,
    path: str | os.PathLike | None = None,
) -> Any:
    """Draws which expert each patch of an image went to, and who did the work.

    Above: the image, then for every mixture-of-experts step the expert of each
    patch's first choice, laid over the image. Below: the fraction of all
    choices that each expert got at each step, over all images of the map.

    Args:
        routing: A `RoutingMap`, as `model.routing(images)` returns it.
        images: The images it was made from, (B, height, width, channels) in
            [-1, 1].
        index: Which image to draw.
        path: Where to write a PNG; None writes none.

    Returns:
        The matplotlib figure.

    Raises:
        ImportError: If matplotlib is not installed.
        ValueError: If there is no image of that index.
    """
    count = routing.experts.shape[1]
    if not -count <= index < count or len(images) != count:
        raise ValueError(
            f"plot_routing: index={index} of {len(images)} images, map of {count}; "
            "give the images that the map was made from and an index among them."
        )
    figure_class = load_matplotlib()
    steps = len(routing.steps)
    columns = min(steps + 1, 7)
    rows = -(-(steps + 1) // columns)
    figure = figure_class(
        figsize=(1.6 * columns, 1.9 * rows + 2.8), layout="constrained"
    )
    top, bottom = figure.subfigures(2, 1, height_ratios=[1.9 * rows, 2.8])
    axes = top.subplots(rows, columns, squeeze=False).ravel()
    _draw_image(axes, routing, images, index)
    draw_load(bottom, routing)
    if path is not None:
        figure.savefig(path, dpi=120)
    return figure


def plot_patches(
    routing: Any,
    images: np.ndarray,
    names: Sequence[str] | None = None,
    path: str | os.PathLike | None = None,
) -> Any:
    """Draws which expert each patch of several images went to, step by step.

    A row per image, a column per mixture-of-experts step; of more than twelve steps
    twelve are drawn, the first and the last among them.

    Args:
        routing: A `RoutingMap`, as `model.routing(images)` returns it.
        images: The images it was made from, (B, height, width, channels) in
            [-1, 1]; all are drawn.
        names: A name for each image, or None.
        path: Where to write a PNG; None writes none.

    Returns:
        The matplotlib figure.

    Raises:
        ImportError: If matplotlib is not installed.
        ValueError: If the map was made from other images.
    """
    count = routing.experts.shape[1]
    if len(images) != count or (names is not None and len(names) != count):
        raise ValueError(
            f"plot_patches: {len(images)} images and "
            f"{'no' if names is None else len(names)} names, map of {count}; give the "
            "images that the map was made from, and a name for each or none."
        )
    figure_class = load_matplotlib()
    drawn = min(len(routing.steps), _MOST_STEPS)
    places = np.linspace(0, len(routing.steps) - 1, drawn).round().astype(int)
    figure = figure_class(
        figsize=(1.1 * (drawn + 1) + 0.9, 1.15 * count + 0.7), layout="constrained"
    )
    grid = figure.subplots(count, drawn + 1, squeeze=False)
    for index, axes in enumerate(grid):
        _draw_image(axes, routing, images, index, places)
        if names is not None:
            axes[0].set_title(names[index], fontsize=9)
        if index:
            for axis in axes[1:]:
                axis.set_title("")
    label_experts(figure, routing.num_experts)
    if path is not None:
        figure.savefig(path, dpi=120)
    return figure


def _draw_image(axes, routing, images, index, places=None):
    """Draws an image, and beside it the experts of its patches at every step.

    Args:
        axes: What to draw on; those that are left over stay empty.
        routing: A `RoutingMap`.
        images: The images of the map.
        index: Which image.
        places: Which of the S steps; None takes all.
    """
    picture = np.clip((np.asarray(images[index]) + 1) / 2, 0, 1)
    picture = np.repeat(picture, 3, axis=-1) if picture.shape[-1] == 1 else picture
    colors = expert_colors(routing.num_experts)
    for axis in axes:
        axis.set_axis_off()
    axes[0].imshow(picture)
    axes[0].set_title("image", fontsize=9)
    height, width = picture.shape[:2]
    experts = routing.patch_experts(index)
    places = range(len(experts)) if places is None else places
    for axis, place in zip(axes[1:], places, strict=False):
        axis.imshow(picture)
        axis.imshow(
            experts[place] % colors.N,
            cmap=colors,
            vmin=-0.5,
            vmax=colors.N - 0.5,
            alpha=0.6,
            extent=(-0.5, width - 0.5, height - 0.5, -0.5),
            interpolation="nearest",
        )
        axis.set_title(f"step {routing.steps[place]}", fontsize=9)
