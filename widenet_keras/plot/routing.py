"""Pictures of where the patches of images go, laid over the images."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from widenet_keras.plot.figure import (
    label_experts,
    legend_inches,
    load_matplotlib,
    short,
    written,
)
from widenet_keras.plot.images import (
    bare,
    draw_experts,
    draw_image,
    heading,
    pixels_of,
    places_of,
)
from widenet_keras.plot.load import draw_load, load_inches

_COLUMNS = 5


def plot_routing(
    routing: Any,
    images: np.ndarray,
    index: int = 0,
    path: str | os.PathLike | None = None,
    labels: Sequence[int] | np.ndarray | None = None,
    class_names: Sequence[str] | None = None,
) -> Any:
    """Draws which expert each patch of an image went to, and who did the work.

    Above: the image, with its class, if given, and what the model takes it for,
    then for every mixture-of-experts step the expert of each patch's first choice,
    laid over the image. Below: the fraction of all choices that each expert got at
    each step, over all images of the map.

    Args:
        routing: A `RoutingMap`, as `model.routing(images)` returns it.
        images: The images it was made from, (B, height, width, channels) in
            [-1, 1].
        index: Which image to draw.
        path: Where to write a PNG; None writes none.
        labels: (B,) whole number, the class of each image; None if unknown.
        class_names: A name for each class; None for those that the model knows, else
            numbers.

    Returns:
        The matplotlib figure.

    Raises:
        ImportError: If matplotlib is not installed.
        ValueError: If there is no image of that index, or labels or names do not fit.
    """
    title = heading("plot_routing", routing, images, index, labels, class_names)
    figure_class = load_matplotlib()
    steps, experts = len(routing.steps), routing.num_experts
    columns = min(steps + 1, _COLUMNS)
    rows, width = -(-(steps + 1) // columns), max(6.4, 1.6 * columns)
    heights = [2.3 * rows + legend_inches(experts, width), load_inches(routing)]
    figure = figure_class(figsize=(width, sum(heights)))
    top, bottom = figure.subfigures(2, 1, height_ratios=heights)
    axes = top.subplots(rows, columns, squeeze=False).ravel()
    _draw_image(axes, routing, images, index, title)
    label_experts(top, experts)
    draw_load(bottom, routing, f"{routing.count:,} images")
    return written(figure, path)


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
    count = routing.count
    if len(images) != count or (names is not None and len(names) != count):
        raise ValueError(
            f"plot_patches: {len(images)} images and "
            f"{'no' if names is None else len(names)} names, map of {count}; give the "
            "images that the map was made from, and a name for each or none."
        )
    figure_class = load_matplotlib()
    places = places_of(len(routing.steps))
    width = 1.1 * (len(places) + 1) + 0.9
    height = 1.15 * count + 0.45 + legend_inches(routing.num_experts, width)
    figure = figure_class(figsize=(width, height))
    grid = figure.subplots(count, len(places) + 1, squeeze=False)
    for index, axes in enumerate(grid):
        title = "image" if names is None else short(names[index])
        _draw_image(axes, routing, images, index, title, places)
        if index:
            for axis in axes[1:]:
                axis.set_title("")
    label_experts(figure, routing.num_experts)
    return written(figure, path)


def _draw_image(axes, routing, images, index, title, places=None):
    """Draws an image, and beside it the experts of its patches at every step.

    Args:
        axes: What to draw on; those that are left over stay empty.
        routing: A `RoutingMap`.
        images: The images of the map.
        index: Which image.
        title: Text above the image.
        places: Which of the S steps; None takes all.
    """
    for axis in axes:
        bare(axis)
    pixels, experts = pixels_of(images[index]), routing.patch_experts(index)
    draw_image(axes[0], pixels, title)
    places = range(len(experts)) if places is None else places
    for axis, place in zip(axes[1:], places, strict=False):
        step = f"step {routing.steps[place]}"
        draw_experts(axis, pixels, experts[place], routing.num_experts, step)
