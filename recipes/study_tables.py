"""What `study.py` found: a file per run, and tables and pictures of all of them."""

import dataclasses
import json
import statistics

from widenet_keras.plot import load_matplotlib
from widenet_keras.utils.files import replaced_when_done
from widenet_keras.utils.tables import write_rows

AXES = {
    "accuracy_parameters.png": ("parameters", "parameters"),
    "accuracy_flops.png": ("gflops", "GFLOP of one image"),
}


@dataclasses.dataclass(frozen=True)
class Row:
    """One finished run.

    Attributes:
        variant: Name of the variant.
        seed: Its seed.
        changes: Fields of the configuration that make the variant.
        accuracy: On the test images, after the last epoch.
        train_accuracy: On the training images as they were augmented, mean over the
            last epoch.
        parameters: Trainable parameters.
        gflops: 1e9 operations of one image's forward pass.
        minutes: From start to end; None of a run that was stopped and went on.
    """

    variant: str
    seed: int
    changes: dict
    accuracy: float
    train_accuracy: float
    parameters: int
    gflops: float
    minutes: float | None


class Rows:
    """The rows of a study, each in a file of its own.

    Processes that train different runs of one study do not get in each other's way,
    and whoever writes the tables last has the rows of all.

    Args:
        folder: Folder of the study.
    """

    def __init__(self, folder):
        self.folder = folder / "rows"

    def path(self, variant, seed):
        """Returns the file of a run."""
        return self.folder / f"{variant}_seed_{seed}.json"

    def has(self, variant, seed):
        """Whether a run is finished."""
        return self.path(variant, seed).exists()

    def add(self, row):
        """Keeps the row of a finished run."""
        with replaced_when_done(self.path(row.variant, row.seed)) as path:
            path.write_text(json.dumps(dataclasses.asdict(row)) + "\n")

    def of(self, variant, seed):
        """Returns the row of a finished run."""
        return Row(**json.loads(self.path(variant, seed).read_text()))

    def all(self, order):
        """Returns the rows of all finished runs.

        Args:
            order: Names of the variants, in the order of the rows; others are last.
        """
        texts = [path.read_text() for path in sorted(self.folder.glob("*.json"))]
        rows = [Row(**json.loads(text)) for text in texts]
        places = {name: place for place, name in enumerate(order)}
        return sorted(
            rows, key=lambda row: (places.get(row.variant, len(order)), row.seed)
        )


def write_tables(folder, rows, main):
    """Writes the rows as CSV, their summary as Markdown, and two pictures.

    Args:
        folder: Folder of the study.
        rows: List of `Row`.
        main: Variants to draw in colour.
    """
    lines = [dataclasses.asdict(row) for row in rows]
    for line in lines:
        line["changes"] = json.dumps(line["changes"])
    write_rows(folder / "results.csv", lines)
    summary = summarize(rows)
    with replaced_when_done(folder / "results.md") as path:
        path.write_text(markdown(summary) + "\n")
    for name, (column, label) in AXES.items() if rows else ():
        with replaced_when_done(folder / name) as path:
            draw(summary, column, label, main, path)


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
    lines = [
        "| variant | seeds | test accuracy | ± | training accuracy | parameters "
        "| GFLOP | minutes |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in sorted(summary, key=lambda row: -row["accuracy"]):
        cells = [
            f"`{row['variant']}`",
            row["seeds"],
            f"{row['accuracy']:.4f}",
            "" if row["spread"] is None else f"{row['spread']:.4f}",
            f"{row['train_accuracy']:.4f}",
            f"{row['parameters']:,}",
            f"{row['gflops']:.4f}",
            "" if row["minutes"] is None else f"{row['minutes']:.1f}",
        ]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def draw(summary, column, label, main, path):
    """Draws the accuracy of every variant against a column of the summary.

    Variants share parameters or arithmetic, so the names stand beside the picture, in
    the order of the accuracy, with a line to their point.
    """
    figure = load_matplotlib()(figsize=(8, 5), layout="constrained")
    axis = figure.subplots()
    axis.set_xscale("log")
    places = [row[column] for row in summary]
    axis.set_xlim(min(places) / 1.3, max(places) * 1.3)
    ordered = sorted(summary, key=lambda row: row["accuracy"])
    for place, row in enumerate(ordered):
        in_colour = row["variant"] in main
        color = "#2f6fb5" if in_colour else "#888888"
        axis.errorbar(
            row[column],
            row["accuracy"],
            yerr=row["spread"],
            marker="o" if in_colour else "s",
            markersize=8 if in_colour else 5,
            capsize=3,
            color=color,
        )
        axis.annotate(
            f"{row['variant']}  {100 * row['accuracy']:.1f}",
            (row[column], row["accuracy"]),
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
