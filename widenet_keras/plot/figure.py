"""What all pictures are made with."""

from typing import Any

from widenet_keras.utils.install import install_command

PANELS_IN_A_ROW = 6


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
        made = figure.Figure(**kwargs)
        backend_agg.FigureCanvasAgg(made)
        return made

    return figure_class


def expert_colors(num_experts):
    """Returns the colour map of the experts; beyond 20 experts colours repeat."""
    from matplotlib import colormaps

    return colormaps["tab10" if num_experts <= 10 else "tab20"]


def label_experts(figure, num_experts):
    """Draws a legend under a figure: the colour of every expert."""
    from matplotlib.patches import Patch

    colors = expert_colors(num_experts)
    # An entry is about 0.95 inches wide.
    columns = max(1, min(num_experts, int(figure.get_figwidth() / 0.95)))
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
        fontsize=8,
    )
    rows = -(-num_experts // columns)
    figure.set_figheight(figure.get_figheight() + 0.22 * rows)


def panels_of_steps(figure, count):
    """Returns a panel per step, at most six in a row, with the same axes.

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
