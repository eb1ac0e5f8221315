"""What all pictures are made with: figures, files, and the colours of experts."""

import os
import warnings
from collections.abc import Sequence
from typing import Any

from widenet_keras.utils.install import install_command
from widenet_keras.utils.printable import printable

# As many as fit side by side where a page shows a picture 800 pixels wide.
PANELS_IN_A_ROW = 4
# An expert has one colour in all pictures. The first seven are told apart by people
# who see no red or no green: Okabe and Ito, "Color Universal Design"
# (jfly.uni-koeln.de/color). Those after them are of Paul Tol's schemes and greys.
EXPERT_COLORS = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#D55E00",
    "#F0E442",
    "#332288",
    "#882255",
    "#44AA99",
    "#999933",
    "#AA4499",
    "#88CCEE",
    "#117733",
    "#DDCC77",
    "#CC6677",
    "#666666",
    "#BBBBBB",
    "#661100",
    "#222222",
)
_DOTS_PER_INCH = 120


def load_matplotlib() -> Any:
    """Returns what makes a figure; it needs no display."""
    try:
        from matplotlib import figure
        from matplotlib.backends import backend_agg
    except ImportError:
        raise ImportError(
            "Pictures need matplotlib, which is not installed; run "
            f"{install_command('plot')}."
        ) from None

    def figure_class(**kwargs):
        made = figure.Figure(layout="constrained", facecolor="white", **kwargs)
        backend_agg.FigureCanvasAgg(made)
        return made

    return figure_class


def written(figure: Any, path: str | os.PathLike | None = None) -> Any:
    """Returns a figure, which is in a file then.

    Args:
        figure: A matplotlib figure.
        path: Where to write a PNG, or what its name ends in; None writes none.
    """
    if path is not None:
        with warnings.catch_warnings():
            # Names are in any script, and a font has not all: it draws boxes then.
            warnings.filterwarnings("ignore", "Glyph .* missing from")
            figure.savefig(path, dpi=_DOTS_PER_INCH)
    return figure


def short(name: object, longest: int = 18) -> str:
    """Returns a name for a picture: visible, and without its middle if too long.

    Args:
        name: Anything, such as the name of a class.
        longest: Characters.
    """
    name, half = printable(name), longest // 2
    return name if len(name) <= longest else f"{name[:half]}…{name[1 - half :]}"


def expert_colors(num_experts: int) -> Any:
    """Returns the colour map of the experts; beyond 20 experts colours repeat."""
    from matplotlib.colors import ListedColormap

    return ListedColormap(EXPERT_COLORS[: max(1, num_experts)])


def color_names(labels: Sequence[Any], num_experts: int) -> None:
    """Lays the colour of every expert under its name.

    Args:
        labels: Texts that name experts from 0 on, of an axis.
        num_experts: E.
    """
    colors = expert_colors(num_experts)
    for label in labels:
        color = colors(int(label.get_text()) % colors.N)
        label.set_color(ink_on(color))
        label.set_bbox(
            {"boxstyle": "round,pad=0.25", "facecolor": color, "edgecolor": "none"}
        )


def ink_on(color: Sequence[float]) -> str:
    """Returns "black" or "white", which can be read on a colour, (R, G, B) to 1."""
    red, green, blue, *_ = color
    # Luma of Rec. 601.
    return "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 0.5 else "white"


def label_experts(figure: Any, num_experts: int) -> None:
    """Draws a legend under a figure: the colour of every expert.

    Args:
        figure: A matplotlib figure, or a part of one.
        num_experts: E.
    """
    from matplotlib.patches import Patch

    colors = expert_colors(num_experts)
    inches = figure.bbox.width / figure.dpi
    # An entry is about an inch wide.
    columns = max(1, min(num_experts, int(inches / 1.02)))
    figure.legend(
        handles=[
            Patch(color=colors(expert % colors.N), label=f"expert {expert}")
            for expert in range(num_experts)
        ],
        loc="outside lower center",
        ncols=columns,
        columnspacing=1.0,
        handlelength=1.2,
        frameon=False,
        fontsize=9,
    )


def legend_inches(num_experts: int, inches: float) -> float:
    """Returns how high the legend of experts is under a figure of some width."""
    columns = max(1, min(num_experts, int(inches / 1.02)))
    return 0.25 * -(-num_experts // columns)


def panels_of_steps(figure: Any, count: int) -> Sequence[Any]:
    """Returns a panel per step, `PANELS_IN_A_ROW` at most in one, with the same axes.

    Args:
        figure: What to draw on.
        count: Number of steps.
    """
    columns = min(count, PANELS_IN_A_ROW)
    rows = -(-count // columns)
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for axis in grid.ravel()[count:]:
        axis.set_axis_off()
    panels = grid.ravel()[:count]
    for axis in panels[-columns:]:
        axis.tick_params(labelbottom=True)
    return panels
