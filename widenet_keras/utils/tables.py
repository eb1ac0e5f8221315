"""Tables of rows, as CSV files and in Markdown."""

import csv
import re
from pathlib import Path

from widenet_keras.utils.files import replaced_when_done
from widenet_keras.utils.printable import printable

_MARKUP = re.compile(r"([\\`*_{}\[\]#~])")


def read_rows(path):
    """Returns the rows of a CSV file as dicts of texts; none if there is no file."""
    if not Path(path).exists():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def read_numbers(path, whole=()):
    """Returns the rows of a CSV file of numbers, as texts; none if there is no file.

    Args:
        path: The file.
        whole: Columns of whole numbers, which every row has; other cells may be empty.

    Raises:
        ValueError: If the file is damaged.
    """
    try:
        rows = read_rows(path)
        if not rows and Path(path).exists():
            raise ValueError("it has no rows")
        for row in rows:
            for name in whole:
                int(row[name])
            # None stands for columns that a row has too few of, or too many.
            for name in row:
                float(row[name] or ("nan" if row[name] == "" else "nothing"))
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise damaged_table(path, error) from None
    return rows


def damaged_table(path, reason):
    """Returns the error about a table that a run cannot go on with.

    Args:
        path: The CSV file.
        reason: What is wrong with it.
    """
    return ValueError(
        f"{path} is damaged ({' '.join(str(reason).split())}); put a copy there if you "
        "have one, or rename it: a new table begins then."
    )


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


def markdown_text(text):
    """Returns a text that Markdown shows as it stands, whatever a stranger wrote."""
    text = _MARKUP.sub(r"\\\1", printable(text))
    for each, name in (("&", "amp"), ("<", "lt"), (">", "gt")):
        text = text.replace(each, f"&{name};")
    return text
