"""What the folder of a training run says about it, as far as it can be read."""

import dataclasses
from pathlib import Path

from widenet_keras.files.run_tables import (
    LOAD_TABLE,
    history_of,
    loads_of,
    read_load_table,
)
from widenet_keras.utils.json_files import read_json
from widenet_keras.utils.tables import read_numbers

_MODEL, _BEST = Path("model.keras"), Path("checkpoints", "best.keras")
_METRICS = Path("metrics.json")
_UNREAD = "the report leaves it out"


@dataclasses.dataclass(frozen=True)
class RunRecord:
    """What a run has written so far.

    Attributes:
        name: Name of its folder.
        settings: What it was started with, a dict; empty if it does not say.
        metrics: What it is to be known by, a dict; empty before it has ended.
        epochs: The epochs behind it, a list.
        history: Columns of its table of epochs, a dict of lists.
        loads: (epochs, steps, loads), as `loads_of` returns them, or None.
        finished: Whether it has ended, and was not given more epochs since.
        notes: What could not be read, a line each.
    """

    name: str
    settings: dict
    metrics: dict
    epochs: list
    history: dict
    loads: tuple | None
    finished: bool
    notes: tuple


def read_run(folder) -> RunRecord:
    """Returns what the folder of a run says.

    A file that is missing is left out; one that is damaged as well, with a note.

    Args:
        folder: The folder.

    Raises:
        ValueError: If there is no such folder.
    """
    folder, notes = Path(folder), []
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder; give that of a run.")

    def read(reader, nothing):
        try:
            return reader()
        except ValueError as error:
            notes.append(str(error))
            return nothing

    def json_of(name):
        path = folder / name
        return read(lambda: read_json(path, _UNREAD) if path.exists() else {}, {})

    table = folder / "history.csv"
    rows = read(lambda: read_numbers(table, whole=("epoch",)), [])
    load_rows = read(lambda: read_load_table(folder / LOAD_TABLE), [])
    return RunRecord(
        name=folder.resolve().name,
        settings=json_of("settings.json"),
        metrics=json_of(_METRICS),
        epochs=[int(row["epoch"]) for row in rows],
        history=history_of(rows),
        loads=loads_of(load_rows) if load_rows else None,
        # Written where training is over; a run that becomes longer removes it.
        finished=(folder / _METRICS).exists(),
        notes=tuple(notes),
    )


def model_file_of(folder, run: RunRecord) -> Path:
    """Returns the model of a run: that of its end, or the best one so far.

    Args:
        folder: The folder of the run.
        run: What `read_run` read of it.

    Raises:
        ValueError: If there is none yet.
    """
    names = (_MODEL, _BEST) if run.finished else (_BEST, _MODEL)
    found = [path for name in names if (path := Path(folder) / name).exists()]
    if not found:
        raise ValueError(
            f"{folder} has no {_MODEL} and no {_BEST}; give a .keras file, or the "
            "folder of a run after its first epoch."
        )
    return found[0]
