"""The tables that a training run keeps in its folder."""

import itertools
import math
from pathlib import Path

import numpy as np

from widenet_keras.utils.tables import damaged_table, read_numbers

LOAD_TABLE = Path("load", "load.csv")
PLACE = ("epoch", "step")


def history_of(rows):
    """Returns the columns of a table of epochs, as `History.history` of Keras has them.

    An epoch without a value, whose validation was skipped, has NaN.

    Args:
        rows: Dicts of numbers or their texts, with an "epoch".
    """
    names = dict.fromkeys(name for row in rows for name in row)
    names.pop("epoch", None)
    return {name: [_number(row.get(name)) for row in rows] for name in names}


def read_load_table(table):
    """Returns the rows of a table of loads, as texts; none if there is no file.

    Args:
        table: The CSV file.

    Raises:
        ValueError: If the file is damaged.
    """
    rows = read_numbers(table, whole=PLACE)
    places = [tuple(int(row[name]) for name in PLACE) for row in rows]
    axes = [sorted(set(axis)) for axis in zip(*places, strict=True)]
    complete = places == list(itertools.product(*axes)) if rows else True
    if not complete or any("" in row.values() for row in rows):
        raise damaged_table(table, "it has no loads for each step of each epoch")
    return rows


def loads_of(rows):
    """Returns what the rows of a table of loads say.

    Args:
        rows: As `read_load_table` returns them, not empty.

    Returns:
        (epochs (N,), steps (S,), loads (N, S, E)): lists and a NumPy array, the
        fraction of the choices of each step that each expert got.
    """
    epochs, steps = (sorted({int(row[name]) for row in rows}) for name in PLACE)
    loads = [
        [float(value) for name, value in row.items() if name not in PLACE]
        for row in rows
    ]
    return epochs, steps, np.reshape(loads, (len(epochs), len(steps), -1))


def _number(cell):
    """Returns a cell of a table as a float; NaN if there is nothing in it."""
    return math.nan if cell in ("", None) else float(cell)
