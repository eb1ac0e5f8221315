"""Tables and pictures of what `study.py` found.

    pip install -e '.[tensorflow,recipes]'
    python recipes/study_tables.py --folder results/study_cifar10

writes `results.md` and the pictures of a study anew from its `results.csv`; it trains
nothing and needs no data. A study of version 0.1.0, which has a file for each run in
`rows/`, gets its `results.csv`, `history.csv` and `settings.json` as well; what is
there stays.
"""

import dataclasses
import statistics
from pathlib import Path

from study_rows import Rows
from study_variants import MAIN, PAIRS, VARIANTS

from widenet_keras.plot import load_matplotlib
from widenet_keras.utils.command_line import run_command
from widenet_keras.utils.files import replaced_when_done
from widenet_keras.utils.tables import markdown_table

AXES = {
    "accuracy_parameters.png": ("parameters", "parameters in thousands", 1e-3),
    "accuracy_flops.png": ("gflops", "MFLOP of one image", 1e3),
}
# Of a logarithmic axis; all nine would run into each other.
TICKS = (1, 1.5, 2, 3, 4, 5, 7)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tables:
    """Write the tables and pictures of a study anew."""

    folder: Path
    """Folder of the study."""


def main(tables):
    """Reads the rows that are there and writes what is made of them."""
    rows = Rows(tables.folder, order=VARIANTS)
    write_tables(tables.folder, rows.brought_up(), MAIN, PAIRS)
    print((tables.folder / "results.md").read_text())


def write_tables(folder, rows, main, pairs):
    """Writes the summary of the rows as Markdown, and two pictures.

    Args:
        folder: Folder of the study.
        rows: List of `Row`.
        main: Dict of variants to draw in colour, and their colours.
        pairs: List of pairs of variants to compare seed by seed.
    """
    summary = summarize(rows)
    with replaced_when_done(folder / "results.md") as path:
        path.write_text(markdown_tables(rows, pairs))
    for name, axis in AXES.items() if rows else ():
        with replaced_when_done(folder / name) as path:
            draw(summary, *axis, main, path)


def markdown_tables(rows, pairs):
    """Returns the summary of the rows, and the pairs seed by seed, as Markdown."""
    tables = [markdown(summarize(rows)), markdown_of_pairs(compare(rows, pairs))]
    return "\n\n".join(filter(None, tables)) + "\n"


def summarize(rows):
    """Returns one dict per variant: mean and spread of the accuracy over the seeds."""
    by_variant = {}
    for row in rows:
        by_variant.setdefault(row.variant, []).append(row)
    return [
        {
            "variant": name,
            "seeds": len(group),
            "accuracy": statistics.mean(row.accuracy for row in group),
            "spread": statistics.stdev(row.accuracy for row in group)
            if len(group) > 1
            else None,
            "train_accuracy": statistics.mean(row.train_accuracy for row in group),
            "parameters": group[0].parameters,
            "gflops": group[0].gflops,
            "minutes": mean_of_known(row.minutes for row in group),
        }
        for name, group in by_variant.items()
    ]


def mean_of_known(values):
    """Returns the mean of the values that are not None; None if all are."""
    known = [value for value in values if value is not None]
    return statistics.mean(known) if known else None


def markdown(summary):
    """Returns a summary as a Markdown table, the best variant first."""
    header = ("variant", "seeds", "test accuracy", "±", "training accuracy")
    header += ("parameters", "GFLOP", "minutes")
    rows = [
        (
            f"`{row['variant']}`",
            f"{row['seeds']}",
            f"{row['accuracy']:.4f}",
            "" if row["spread"] is None else f"{row['spread']:.4f}",
            f"{row['train_accuracy']:.4f}",
            f"{row['parameters']:,}",
            f"{row['gflops']:.4f}",
            "" if row["minutes"] is None else f"{row['minutes']:.1f}",
        )
        for row in sorted(summary, key=lambda row: -row["accuracy"])
    ]
    return markdown_table(header, rows)


def compare(rows, pairs):
    """Returns one dict per pair of variants that have seeds in common.

    A seed gives both the same order of the same images, so what differs between the
    two runs of a seed says more than what differs between two means.
    """
    of = {(row.variant, row.seed): row for row in rows}
    compared = []
    for one, other in pairs:
        runs = [
            (row, of[other, row.seed])
            for row in rows
            if row.variant == one and (other, row.seed) in of
        ]
        if not runs:
            continue
        differences = [first.accuracy - second.accuracy for first, second in runs]
        first, second = runs[0]
        compared.append(
            {
                "pair": (one, other),
                "parameters": first.parameters / second.parameters,
                "gflops": first.gflops / second.gflops,
                "mean": statistics.mean(differences),
                "differences": differences,
            }
        )
    return compared


def markdown_of_pairs(compared):
    """Returns what `compare` found as a Markdown table; nothing where it is empty."""
    if not compared:
        return ""
    header = ("variant", "against", "parameters", "GFLOP", "test accuracy")
    header += ("of each seed",)
    rows = [
        (
            *(f"`{name}`" for name in row["pair"]),
            f"{row['parameters']:.3f}",
            f"{row['gflops']:.2f}",
            f"{row['mean']:+.4f}",
            ", ".join(f"{difference:+.4f}" for difference in row["differences"]),
        )
        for row in compared
    ]
    return markdown_table(header, rows)


def draw(summary, column, label, unit, main, path):
    """Draws the accuracy of every variant against a column of the summary.

    Variants share parameters or arithmetic, so the names stand beside the picture, in
    the order of the accuracy, with a line to their point.
    """
    figure = load_matplotlib()(figsize=(8, 5))
    axis = figure.subplots()
    axis.set_xscale("log")
    places = [unit * row[column] for row in summary]
    low, high = min(places) / 1.3, max(places) * 1.3
    axis.set_xlim(low, high)
    ticks = [digit * 10.0**power for power in range(-3, 9) for digit in TICKS]
    axis.set_xticks([tick for tick in ticks if low < tick < high])
    axis.minorticks_off()
    axis.xaxis.set_major_formatter("{x:g}")
    ordered = sorted(summary, key=lambda row: row["accuracy"])
    for place, row in enumerate(ordered):
        in_colour = row["variant"] in main
        color = main.get(row["variant"], "#888888")
        axis.errorbar(
            unit * row[column],
            row["accuracy"],
            yerr=row["spread"],
            marker="o" if in_colour else "s",
            markersize=8 if in_colour else 5,
            capsize=3,
            color=color,
        )
        axis.annotate(
            f"{row['variant']}  {row['accuracy']:.4f}",
            (unit * row[column], row["accuracy"]),
            xytext=(1.04, (place + 0.5) / len(ordered)),
            textcoords="axes fraction",
            color=color,
            fontsize=9,
            fontweight="bold" if in_colour else "normal",
            verticalalignment="center",
            arrowprops={"arrowstyle": "-", "color": color, "alpha": 0.35},
        )
    axis.set_xlabel(label)
    axis.set_ylabel("test accuracy")
    axis.grid(alpha=0.3)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    run_command(main, Tables)
