"""Pictures of routing and training, with matplotlib."""

import numpy as np


def plot_routing(routing, images, index=0, path=None):
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
    colors = _expert_colors(routing)
    picture = np.clip((np.asarray(images[index]) + 1) / 2, 0, 1)
    picture = np.repeat(picture, 3, axis=-1) if picture.shape[-1] == 1 else picture
    axes = top.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes:
        axis.set_axis_off()
    axes[0].imshow(picture)
    axes[0].set_title("image", fontsize=9)
    side = picture.shape[:2]
    for axis, step, experts in zip(
        axes[1:], routing.steps, routing.patch_experts(index), strict=False
    ):
        axis.imshow(picture)
        axis.imshow(
            experts % colors.N,
            cmap=colors,
            vmin=-0.5,
            vmax=colors.N - 0.5,
            alpha=0.6,
            extent=(-0.5, side[1] - 0.5, side[0] - 0.5, -0.5),
            interpolation="nearest",
        )
        axis.set_title(f"step {step}", fontsize=9)
    draw_load(bottom, routing)
    if path is not None:
        figure.savefig(path, dpi=120)
    return figure


def plot_load(routing, path=None):
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


def draw_load(figure, routing):
    """Draws the step-by-expert load map with its numbers."""
    colors = _expert_colors(routing)
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


def _expert_colors(routing):
    """Returns the colour map in which every expert has a colour of its own."""
    from matplotlib import colormaps

    return colormaps["tab10" if routing.num_experts <= 10 else "tab20"]


def plot_history(history, path=None):
    """Draws the curves of a training run: losses, accuracy, routing.

    Args:
        history: The `history` dict of what `model.fit` returns.
        path: Where to write a PNG; None writes none.

    Returns:
        The matplotlib figure.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    figure_class = load_matplotlib()
    panels = [
        ("loss", ("loss", "task_loss", "val_loss")),
        ("accuracy", ("accuracy", "val_accuracy")),
        ("routing", ("utilization", "dropped_fraction", "dead_experts")),
    ]
    panels = [
        (title, [name for name in names if name in history]) for title, names in panels
    ]
    panels = [(title, names) for title, names in panels if names]
    if not panels:
        raise ValueError(
            f"plot_history: nothing to draw in {sorted(history)}; give "
            "the `history` of what model.fit() returned."
        )
    figure = figure_class(figsize=(4 * len(panels), 3.2), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axis, (title, names) in zip(axes, panels, strict=True):
        for name in names:
            # A value that is not taken every epoch ends with the last epoch.
            values = history[name]
            every = len(history["loss"]) // len(values)
            axis.plot(every * np.arange(1, len(values) + 1), values, label=name)
        axis.set_title(title)
        axis.set_xlabel("epoch")
        axis.legend(fontsize=8)
        axis.grid(alpha=0.3)
    if path is not None:
        figure.savefig(path, dpi=120)
    return figure


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
