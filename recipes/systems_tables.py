"""The tables of what `systems.py` found.

    pip install -e '.[tensorflow,recipes]'
    python recipes/systems_tables.py --folder results/systems_digits

writes `results.md` anew from `results.csv`; it trains nothing and needs no data.
"""

import dataclasses
import statistics
from pathlib import Path

from study_rows import Rows
from systems_methods import METHODS

from widenet_keras.utils.command_line import run_command
from widenet_keras.utils.files import replaced_when_done
from widenet_keras.utils.tables import markdown_table

# Groups that share a table; others have their own.
_TABLE_OF = dict.fromkeys(("heads", "prompts", "adapters"), "tuned")
# Of the rows.
ORDER = ("source", *METHODS)
# Groups of models that all start from nothing.
FRESH_GROUPS = ("structures", "taught")


@dataclasses.dataclass(frozen=True)
class SystemRow:
    """One finished run.

    Attributes:
        variant: Name of the method.
        group: Its group.
        against: The method that it is held against, or None.
        seed: Its seed.
        parameters: Of the model.
        trained: Those of them that were trained; 0 of what is only cut out of
            another, and of the source.
        gflops: 1e9 operations of one image's forward pass.
        accuracies: Of the test images: at once, and after each epoch.
        members: Those of every copy of a bank alone, after the last epoch.
        minutes: From start to end; None of a run that was stopped and went on.
    """

    variant: str
    group: str
    against: str | None
    seed: int
    parameters: int
    trained: int
    gflops: float
    accuracies: list
    members: list
    minutes: float | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tables:
    """Write the tables of a comparison anew."""

    folder: Path
    """Folder of the results."""


def main(tables):
    """Reads the rows that are there and writes what is made of them."""
    rows = Rows(tables.folder, SystemRow, ORDER)
    write_tables(tables.folder, rows.brought_up())
    print((tables.folder / "results.md").read_text())


def write_tables(folder, rows):
    """Writes the means of the rows as Markdown.

    Args:
        folder: Folder of the results.
        rows: List of `SystemRow`.
    """
    with replaced_when_done(folder / "results.md") as path:
        path.write_text(markdown(rows))


def markdown(rows):
    """Returns the means over the seeds as Markdown, a table for each task."""
    known = by_method(rows)
    begun = known.get("source", [])
    rows, tables = [row for row in rows if row.variant != "source"], []
    for group in dict.fromkeys(_TABLE_OF.get(row.group, row.group) for row in rows):
        some = [row for row in rows if _TABLE_OF.get(row.group, row.group) == group]
        if group in FRESH_GROUPS:
            tables.append(fresh_table(known, some))
        else:
            tables.append(table(known, [*begun, *some]))
        begun = []
    return "\n\n".join(tables) + "\n"


def table(known, rows):
    """Returns a table of rows, a line for each method.

    Args:
        known: Dict from the names of methods to their rows.
        rows: List of `SystemRow`.
    """
    header = ("method", "parameters", "trained", "GFLOP", "at once", "after epoch 1")
    header += ("at the end", "±", "of each seed", "against", "difference", "minutes")
    lines = []
    for name, group in by_method(rows).items():
        first, ends = group[0], [row.accuracies[-1] for row in group]
        was_watched = len(first.accuracies) > 2
        apart = apart_of(known, group)
        minutes = [row.minutes for row in group if row.minutes]
        lines.append(
            (
                f"`{name}`",
                f"{size_of(group, 'parameters'):,.0f}",
                f"{size_of(group, 'trained'):,.0f}",
                f"{size_of(group, 'gflops'):.4f}",
                f"{mean_of(group, 0):.3f}",
                f"{mean_of(group, 1):.3f}" if was_watched else "",
                f"{mean_of(group):.3f}",
                f"{statistics.stdev(ends):.3f}" if len(ends) > 1 else "",
                ", ".join(f"{end:.3f}" for end in ends),
                f"`{first.against}`" if apart else "",
                f"{mean_apart(apart):+.3f}" if apart else "",
                f"{statistics.mean(minutes):.1f}" if minutes else "",
            )
        )
    return markdown_table(header, lines)


def fresh_table(known, rows):
    """Returns a table of models that start from nothing, compared seed by seed.

    Args:
        known: Dict from the names of methods to their rows.
        rows: List of `SystemRow`.
    """
    header = ("method", "parameters", "GFLOP", "accuracy", "±", "of each seed")
    header += ("against", "difference", "of each seed", "minutes")
    lines = []
    for name, group in by_method([*known.get("source", []), *rows]).items():
        first, ends = group[0], [row.accuracies[-1] for row in group]
        apart = apart_of(known, group)
        minutes = [row.minutes for row in group if row.minutes]
        lines.append(
            (
                f"`{name}`",
                f"{size_of(group, 'parameters'):,.0f}",
                f"{size_of(group, 'gflops'):.4f}",
                f"{mean_of(group):.3f}",
                f"{statistics.stdev(ends):.3f}" if len(ends) > 1 else "",
                ", ".join(f"{end:.3f}" for end in ends),
                f"`{first.against}`" if apart else "",
                f"{mean_apart(apart):+.3f}" if apart else "",
                ", ".join(f"{each:+.3f}" for each in apart),
                f"{statistics.mean(minutes):.1f}" if minutes else "",
            )
        )
    return markdown_table(header, lines)


def apart_of(known, rows):
    """Returns how far each row of a method is ahead of its seed's other method.

    Args:
        known: Dict from the names of methods to their rows.
        rows: List of `SystemRow`, of one method; those of seeds that the other method
            lacks are left out.
    """
    others = {row.seed: row.accuracies[-1] for row in known.get(rows[0].against, [])}
    return [r.accuracies[-1] - others[r.seed] for r in rows if r.seed in others]


def mean_apart(apart):
    """Returns the mean of `apart_of`."""
    # What cancels leaves a rounding error, whose sign would be shown.
    return round(statistics.mean(apart), 6) + 0.0


def by_method(rows):
    """Returns a dict from the names of methods to their rows."""
    found = {}
    for row in rows:
        found.setdefault(row.variant, []).append(row)
    return found


def size_of(rows, name):
    """Returns the mean of a size of rows; pruning leaves other ones with each seed."""
    return statistics.mean(getattr(row, name) for row in rows)


def mean_of(rows, epoch=-1):
    """Returns the mean accuracy of rows after an epoch."""
    return statistics.mean(row.accuracies[epoch] for row in rows)


if __name__ == "__main__":
    run_command(main, Tables)
