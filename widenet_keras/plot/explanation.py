"""One picture of what a model makes of one image."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from widenet_keras.plot.figure import (
    EXPERT_COLORS,
    label_experts,
    legend_inches,
    load_matplotlib,
    short,
    written,
)
from widenet_keras.plot.images import (
    ATTENTION,
    draw_attention,
    draw_experts,
    draw_image,
    heading,
    names_of,
    pixels_of,
    places_of,
)
from widenet_keras.plot.load import draw_load, load_inches
from widenet_keras.utils.softmax import probabilities

_OWNER = "plot_explanation"
_STEPS, _CLASSES = 5, 5
_WIDTH = 8.0


def plot_explanation(
    attention: Any,
    images: np.ndarray,
    routing: Any = None,
    index: int = 0,
    path: str | os.PathLike | None = None,
    labels: Sequence[int] | np.ndarray | None = None,
    class_names: Sequence[str] | None = None,
) -> Any:
    """Draws what a model takes an image for, and what it looked at for that.

    From above: the image and the most probable classes; what the tokens that the head
    reads look at, as `plot_attention` draws it; for a model with experts the expert of
    each patch, as `plot_routing` draws it, and how much of this image each expert had.
    Of many steps five are drawn, the first and the last among them.

    Args:
        attention: An `AttentionMap`, as `model.attention(images)` returns it.
        images: The images it was made from, (B, height, width, channels) in
            [-1, 1].
        routing: A `RoutingMap` of the same images; None for a model without experts.
        index: Which image to draw.
        path: Where to write a PNG; None writes none.
        labels: (B,) whole number, the class of each image; None if unknown.
        class_names: A name for each class; None for those that the model knows, else
            numbers.

    Returns:
        The matplotlib figure.

    Raises:
        ImportError: If matplotlib is not installed.
        ValueError: If there is no image of that index, or maps, labels or names do
            not fit.
    """
    given = images, index, labels, class_names
    title = heading(_OWNER, attention, *given)
    if routing is not None:
        heading(_OWNER, routing, *given)
        routing = routing.of_image(index)
    figure_class = load_matplotlib()
    heights = [2.4, 2.2]
    if routing is not None:
        experts = routing.num_experts
        heights += [2.1 + legend_inches(experts, _WIDTH), load_inches(routing)]
    figure = figure_class(figsize=(_WIDTH, sum(heights)))
    top, middle, *more = figure.subfigures(len(heights), 1, height_ratios=heights)
    pixels, tokens = pixels_of(images[index]), attention.weights.shape[-1]
    left, right = top.subplots(1, 2, width_ratios=[1, 1.6])
    draw_image(left, pixels, title)
    right.set_axis_off()
    if attention.logits is not None:
        shares = probabilities(attention.logits[index])
        names = names_of(_OWNER, attention, class_names, len(shares))
        _draw_classes(right, shares, names)
    received = attention.received(index)
    middle.suptitle(ATTENTION, fontsize=9)
    for axis, place in _panels(middle, len(received)):
        draw_attention(axis, pixels, received[place], tokens, f"step {place}")
    if routing is not None:
        _draw_routing(*more, routing, pixels)
    return written(figure, path)


def _draw_routing(middle, bottom, routing, pixels):
    middle.suptitle("expert of each patch", fontsize=9)
    for axis, place in _panels(middle, len(routing.steps)):
        step, experts = routing.steps[place], routing.patch_experts(0)[place]
        draw_experts(axis, pixels, experts, routing.num_experts, f"step {step}")
    label_experts(middle, routing.num_experts)
    draw_load(bottom, routing, "this image")


def _panels(figure, steps):
    """Returns pairs of an axis and which of the steps it is for."""
    places = places_of(steps, _STEPS)
    axes = figure.subplots(1, len(places), squeeze=False)[0]
    return zip(axes, places, strict=True)


def _draw_classes(axis, shares, names):
    """Draws the most probable classes as bars."""
    axis.set_axis_on()
    best = (-shares).argsort(kind="stable")[:_CLASSES]
    bars = axis.barh(range(len(best)), shares[best], color=EXPERT_COLORS[0])
    axis.bar_label(
        bars, [f"{100 * shares[each]:.1f} %" for each in best], padding=3, fontsize=9
    )
    axis.set_yticks(
        range(len(best)),
        [short(names[each], 24) for each in best],
        fontsize=9,
        parse_math=False,
    )
    axis.invert_yaxis()
    axis.set_xlim(0, 1.2)
    axis.set_xticks([])
    axis.spines[["top", "right", "bottom"]].set_visible(False)
    axis.set_title("most probable classes", fontsize=9)
