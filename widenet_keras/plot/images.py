"""Images in pictures: what they are and are taken for, and what is laid over them."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from widenet_keras.plot.figure import expert_colors, short
from widenet_keras.utils.softmax import probabilities

# Of deeper models so many steps are drawn, the first and the last among them.
MOST_STEPS = 12
# Of a name above an image that is one of five side by side.
_LONGEST = 11
# What the colours of `draw_attention` say.
ATTENTION = (
    "attention, from none (black) to the most of a patch (yellow): x times an even "
    "share"
)
# How much of what is laid over an image is seen before it.
_OVER = 0.7


def heading(
    owner: str,
    found: Any,
    images: np.ndarray,
    index: int,
    labels: Sequence[int] | np.ndarray | None,
    class_names: Sequence[str] | None,
) -> str:
    """Returns what an image is and what it is taken for; "image" if nobody knows.

    Args:
        owner: Name that starts the message of an error.
        found: `RoutingMap` or `AttentionMap` of the images.
        images: (B, height, width, channels).
        index: Which image.
        labels: (B,) whole number, the class of each image; None if unknown.
        class_names: A name for each class; None for those of the map, else numbers.

    Raises:
        ValueError: If the map is of other images, there is none of that index, or
            there are not as many labels or names as needed.
    """
    count = found.count
    if not -count <= index < count or len(images) != count:
        raise ValueError(
            f"{owner}: index={index} of {len(images)} images, map of {count}; give the "
            "images that the map was made from and an index among them."
        )
    lines, classes, logits = [], 0, found.logits
    if labels is not None:
        labels = np.asarray(labels)
        if labels.shape != (count,) or labels.dtype.kind not in "iu":
            raise ValueError(
                f"{owner}: labels of shape {labels.shape} and {labels.dtype}, "
                f"{count} images; give one whole number per image."
            )
        if (labels < 0).any():
            raise ValueError(f"{owner}: labels start at 0 and one is {labels.min()}.")
        classes = int(labels.max()) + 1
    if logits is not None:
        classes = max(classes, logits.shape[1])
    names = names_of(owner, found, class_names, classes)
    if labels is not None:
        lines.append(f"class: {short(names[labels[index]], _LONGEST)}")
    if logits is not None:
        shares = probabilities(logits[index])
        best = int(shares.argmax())
        percent = f"{100 * shares[best]:.0f} %"
        lines.append(f"model: {short(names[best], _LONGEST)}, {percent}")
    return "\n".join(lines) or "image"


def names_of(
    owner: str, found: Any, class_names: Sequence[str] | None, classes: int
) -> Sequence[object]:
    """Returns the names of the classes; arguments as for `heading`."""
    names = found.class_names if class_names is None else class_names
    names = range(classes) if names is None else names
    if len(names) < classes:
        raise ValueError(
            f"{owner}: {len(names)} class names and {classes} classes; give one name "
            "per class."
        )
    return names


def places_of(steps: int, most: int = MOST_STEPS) -> np.ndarray:
    """Returns which of some steps are drawn, evenly spread; all if they are few."""
    return np.linspace(0, steps - 1, min(steps, most)).round().astype(int)


def pixels_of(image: np.ndarray) -> np.ndarray:
    """Returns what is shown of an image, (height, width, 3) from 0 to 1.

    Args:
        image: (height, width, channels) in [-1, 1]. Of other numbers of channels than
            1 and 3 the mean is shown.
    """
    shown = np.clip((np.asarray(image, "float32") + 1) / 2, 0, 1)
    if shown.shape[-1] != 3:
        shown = np.repeat(shown.mean(axis=-1, keepdims=True), 3, axis=-1)
    return shown


def bare(axis: Any) -> None:
    """Takes ticks and frame off an axis; a layout still leaves room for its title."""
    axis.set_xticks([])
    axis.set_yticks([])
    axis.spines[:].set_visible(False)


def draw_image(axis: Any, pixels: np.ndarray, title: str) -> None:
    """Draws an image by itself."""
    bare(axis)
    axis.imshow(pixels)
    # A name is no formula, whatever is in it.
    axis.set_title(title, fontsize=8, parse_math=False)


def draw_over(
    axis: Any, pixels: np.ndarray, values: np.ndarray, title: str, **how: Any
) -> None:
    """Draws a number of every patch as a colour, over the image in pale grey.

    Args:
        axis: A matplotlib axis.
        pixels: As `pixels_of` returns them.
        values: (rows, columns).
        title: Text above.
        **how: `cmap`, `vmin` and `vmax` of the colours.
    """
    bare(axis)
    # In grey, and neither black nor white, so that the colours can be read.
    grey = 0.25 + 0.6 * pixels.mean(axis=-1, keepdims=True)
    axis.imshow(np.repeat(grey, 3, axis=-1))
    height, width = pixels.shape[:2]
    edges = (-0.5, width - 0.5, height - 0.5, -0.5)
    axis.imshow(values, alpha=_OVER, extent=edges, interpolation="nearest", **how)
    axis.set_title(title, fontsize=9, parse_math=False)


def draw_experts(
    axis: Any, pixels: np.ndarray, experts: np.ndarray, num_experts: int, title: str
) -> None:
    """Draws which expert each patch went to; see `draw_over`."""
    colors = expert_colors(num_experts)
    how = {"cmap": colors, "vmin": -0.5, "vmax": colors.N - 0.5}
    draw_over(axis, pixels, experts % colors.N, title, **how)


def draw_attention(
    axis: Any, pixels: np.ndarray, received: np.ndarray, tokens: int, title: str
) -> None:
    """Draws how much each patch is looked at; see `draw_over`.

    From black, nothing, to yellow, the most of any patch; the title says how many times
    that is what each token got if all got the same.

    Args:
        axis: A matplotlib axis.
        pixels: As `pixels_of` returns them.
        received: (rows, columns), as a row of `AttentionMap.received`.
        tokens: T, over which attention is spread. Prompts, which take a part of it, and
            groups, whose tokens look at their own group alone, are not counted.
        title: Text above.
    """
    most = float(received.max())
    how = {"cmap": "inferno", "vmin": 0.0, "vmax": max(most, 1e-9)}
    draw_over(axis, pixels, received, f"{title}: {most * tokens:.1f} x", **how)
