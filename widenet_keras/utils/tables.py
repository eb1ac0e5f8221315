"""Tables of rows, as CSV files and in Markdown."""

import csv
from pathlib import Path

from widenet_keras.utils.files import replaced_when_done


def read_rows(path):
    """Returns the rows of a CSV file as dicts of texts; none if there is no file."""
    if not Path(path).exists():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write_rows(path, rows):
    """Writes rows as a CSV file whose columns are those of any row.

    Args:
        path: The file to make or replace.
        rows: List of dicts.
    """
    names = list(dict.fromkeys(name for each in rows for name in each))
    with (
        replaced_when_done(path) as fresh,
        fresh.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)


def markdown_table(header, rows):
    """Returns a table in Markdown.

    Args:
        header: Names of the columns.
        rows: Texts of the cells, row by row.
    """

    def line(cells):
        # A bar would end the cell, a line break the row.
        cells = [" ".join(cell.replace("|", "\\|").split()) for cell in cells]
        return f"| {' | '.join(cells)} |"

    return "\n".join([line(header), "|" + "---|" * len(header), *map(line, rows)])
