"""What all pictures are made with."""


def load_matplotlib():
    """Returns what makes a figure; it needs no display."""
    try:
        from matplotlib import figure
        from matplotlib.backends import backend_agg
    except ImportError:
        raise ImportError(
            "Pictures need matplotlib, which is not installed; run "
            "pip install 'widenet_keras[plot]'."
        ) from None

    def figure_class(**kwargs):
        made = figure.Figure(**kwargs)
        backend_agg.FigureCanvasAgg(made)
        return made

    return figure_class


def expert_colors(num_experts):
    """Returns the colour map in which every expert has a colour of its own."""
    from matplotlib import colormaps

    return colormaps["tab10" if num_experts <= 10 else "tab20"]


def label_experts(figure, num_experts):
    """Draws a legend under a figure: the colour of every expert."""
    from matplotlib.patches import Patch

    colors = expert_colors(num_experts)
    figure.legend(
        handles=[
            Patch(color=colors(expert % colors.N), label=f"expert {expert}")
            for expert in range(num_experts)
        ],
        loc="outside lower center",
        ncols=min(num_experts, 8),
        frameon=False,
        fontsize=9,
    )
