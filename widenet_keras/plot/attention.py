"""Pictures of what a model looks at, laid over an image."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from widenet_keras.plot.figure import load_matplotlib, written
from widenet_keras.plot.images import (
    ATTENTION,
    bare,
    draw_attention,
    draw_image,
    heading,
    pixels_of,
    places_of,
)

_COLUMNS = 5


def plot_attention(
    attention: Any,
    images: np.ndarray,
    index: int = 0,
    path: str | os.PathLike | None = None,
    labels: Sequence[int] | np.ndarray | None = None,
    class_names: Sequence[str] | None = None,
) -> Any:
    """Draws what the tokens that the head reads look at, step by step.

    The image, with its class, if given, and what the model takes it for, then how
    much attention each patch gets at every step: from black, none, to yellow, the most
    of any patch, so many times what each token would get if all got the same; prompts
    and groups of tokens are not counted. Of more than twelve steps twelve are drawn,
    the first and the last among them.

    Args:
        attention: An `AttentionMap`, as `model.attention(images)` returns it.
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
    title = heading("plot_attention", attention, images, index, labels, class_names)
    figure_class = load_matplotlib()
    received, pixels = attention.received(index), pixels_of(images[index])
    places = places_of(len(received))
    columns = min(len(places) + 1, _COLUMNS)
    rows = -(-(len(places) + 1) // columns)
    figure = figure_class(figsize=(max(6.4, 1.6 * columns), 2.0 * rows + 0.5))
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes:
        bare(axis)
    figure.supxlabel(ATTENTION, fontsize=9)
    draw_image(axes[0], pixels, title)
    tokens = attention.weights.shape[-1]
    for axis, place in zip(axes[1:], places, strict=False):
        draw_attention(axis, pixels, received[place], tokens, f"step {place}")
    return written(figure, path)
