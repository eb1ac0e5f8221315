"""Draw the idea of WideNet beside ViT, with the parameters of the real models.

    pip install -e '.[tensorflow,recipes]'
    python recipes/idea.py --output idea.png

A few steps stand for all of them; the bars are counted on the models.
"""

import dataclasses
from pathlib import Path

import widenet_keras
from widenet_keras.models.description import parameters_of_parts
from widenet_keras.plot import load_matplotlib
from widenet_keras.utils.command_line import run_command
from widenet_keras.utils.files import check_file, replaced_when_done

MODELS = ("vit_b16", "vit_moe_b16", "widenet_b16")
COLORS = {
    "attention": "#d9822b",
    "dense MLPs": "#7a8fa6",
    "experts": "#3f7fbf",
    "norms of the steps": "#4f9d69",
    "ring": "#8c6bb1",
    "pieces": "#c2549d",
    "embedding and head": "#c9c9c9",
}
STEPS = 6


@dataclasses.dataclass(frozen=True, kw_only=True)
class Idea:
    """Draw the idea of WideNet beside ViT."""

    output: Path = Path("idea.png")
    """The PNG to make or replace."""
    models: tuple[str, ...] = MODELS
    """Presets whose parameters are compared."""

    def __post_init__(self):
        if not self.models:
            raise ValueError("idea: models are none; name one, or leave it out.")


def main(idea):
    """Counts the parameters of the models and draws."""
    check_file(idea.output)
    counts = {name: counted(name) for name in idea.models}
    figure = load_matplotlib()(figsize=(10, 5.6))
    top, bottom = figure.subfigures(2, 1, height_ratios=[3.6, 2])
    left, right = top.subplots(1, 2, width_ratios=[1, 1.25])
    draw_vit(left)
    draw_widenet(right)
    draw_parameters(bottom.subplots(), counts)
    with replaced_when_done(idea.output) as path:
        figure.savefig(path, dpi=120)
    print(f"drawn to {idea.output}")


def counted(preset):
    """Returns the parameters of a preset by the parts of `COLORS`."""
    model = widenet_keras.ImageClassifier.from_preset(preset)
    counts = dict.fromkeys(COLORS, 0)
    for part, count in parameters_of_parts(model).items():
        part = "experts" if part == "router" else part
        counts[part if part in COLORS else "embedding and head"] += count
    return counts


def box(axis, x, y, width, height, part, text="", shade=1.0):
    """Draws a box of a part with its name, lighter with a smaller shade."""
    from matplotlib.patches import FancyBboxPatch

    axis.add_patch(
        FancyBboxPatch(
            (x, y),
            width,
            height,
            boxstyle="round,pad=0,rounding_size=0.08",
            facecolor=COLORS[part],
            alpha=shade,
            edgecolor="white",
        )
    )
    axis.text(
        x + width / 2,
        y + height / 2,
        text,
        ha="center",
        va="center",
        color="white",
        fontsize=9,
        fontweight="bold",
    )


def arrow(axis, start, end, curve=0.0):
    """Draws an arrow between two points."""
    axis.annotate(
        "",
        end,
        start,
        arrowprops={
            "arrowstyle": "-|>",
            "color": "#555555",
            "linewidth": 0.8,
            "connectionstyle": f"arc3,rad={curve}",
        },
    )


def prepared(axis, title):
    """Sets the frame of a drawing."""
    axis.set_xlim(0, 10)
    axis.set_ylim(-0.4, STEPS + 0.6)
    axis.set_axis_off()
    axis.set_title(title, fontsize=11)


def draw_vit(axis):
    """Draws a stack of blocks, each with weights of its own."""
    prepared(axis, "ViT: every step has weights of its own")
    for step in range(STEPS):
        shade = 0.45 + 0.55 * step / (STEPS - 1)
        box(axis, 1.0, step + 0.1, 0.7, 0.7, "norms of the steps", "LN", shade)
        box(axis, 1.9, step + 0.1, 2.8, 0.7, "attention", "attention", shade)
        box(axis, 4.9, step + 0.1, 0.7, 0.7, "norms of the steps", "LN", shade)
        box(axis, 5.8, step + 0.1, 2.8, 0.7, "dense MLPs", "MLP", shade)
        axis.text(0.5, step + 0.45, f"{step}", ha="center", va="center", fontsize=9)
        if step:
            arrow(axis, (8.9, step - 0.5), (8.9, step + 0.4), 0.6)


def draw_widenet(axis):
    """Draws one block that all steps run through, and the norms of each."""
    prepared(axis, "WideNet: one block for all steps, norms of their own")
    middle = STEPS / 2 - 0.05
    for step in range(STEPS):
        shade = 0.45 + 0.55 * step / (STEPS - 1)
        place = step + 0.45
        axis.text(0.2, place, f"{step}", ha="center", va="center", fontsize=9)
        box(axis, 0.5, step + 0.1, 0.7, 0.7, "norms of the steps", "LN", shade)
        arrow(axis, (1.25, place), (2.05, middle))
        box(axis, 4.7, step + 0.1, 0.7, 0.7, "norms of the steps", "LN", shade)
        arrow(axis, (3.95, middle), (4.65, place))
        arrow(axis, (5.45, place), (6.1, middle))
    box(axis, 2.1, middle - 1.0, 1.8, 2.0, "attention", "attention")
    axis.text(6.55, middle, "router\ntop 2", ha="center", va="center", fontsize=9)
    for expert, chosen in enumerate((True, False, True, False)):
        y = middle - 2.25 + 1.15 * expert
        box(axis, 7.8, y, 1.6, 0.95, "experts", "expert", 1.0 if chosen else 0.4)
        if chosen:
            arrow(axis, (7.0, middle), (7.75, y + 0.47))
    above = STEPS + 0.15
    axis.plot(
        [8.6, 8.6, 0.85], [middle + 2.25, above, above], color="#555555", linewidth=0.8
    )
    arrow(axis, (0.85, above), (0.85, STEPS - 0.2))
    axis.text(5.8, above + 0.1, "again, with the next norms", ha="center", fontsize=9)


def draw_parameters(axis, counts):
    """Draws the parameters of each model as a bar of its parts."""
    names = list(counts)[::-1]
    ends = [0.0] * len(names)
    for part, color in COLORS.items():
        widths = [counts[name][part] / 1e6 for name in names]
        # Most models have neither a ring nor pieces.
        if not any(widths):
            continue
        axis.barh(names, widths, left=ends, color=color, label=part, height=0.7)
        ends = [end + width for end, width in zip(ends, widths, strict=True)]
    for place, end in enumerate(ends):
        axis.text(
            end + 0.01 * max(ends), place, f"{end:.1f} million", va="center", fontsize=9
        )
    axis.set_xlim(0, 1.15 * max(ends))
    axis.set_xlabel("parameters, millions")
    axis.figure.legend(
        fontsize=9, loc="outside lower center", ncols=len(COLORS), frameon=False
    )
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)


if __name__ == "__main__":
    run_command(main, Idea)
