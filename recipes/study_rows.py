"""What a study found: a table with a line per finished run, and one of their epochs."""

import dataclasses
import json
import typing

from widenet_keras.utils.files import check_folder
from widenet_keras.utils.json_files import read_json, write_json
from widenet_keras.utils.locks import in_turn
from widenet_keras.utils.tables import damaged_table, read_rows, write_rows

# The second is what studies of version 0.1.0 call it.
_SETTINGS, _SETTINGS_BEFORE = "settings.json", "study.json"


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
    """The finished runs of a study: `results.csv`, and their epochs in `history.csv`.

    A run is finished if `results.csv` has its line; its folder need not be there.
    Processes that train different runs of one study take turns to write. A study of
    version 0.1.0 has a file for each run in `rows/`, which is read as well.

    Args:
        folder: Folder of the study.
        kind: Dataclass of a row, with a variant and a seed.
        order: Names of the variants, in the order of the rows; others are last.
    """

    def __init__(self, folder, kind=Row, order=()):
        self.folder = folder
        self.path = folder / "results.csv"
        self.kind = kind
        self.places = {name: place for place, name in enumerate(order)}

    def has(self, variant, seed):
        """Whether a run is finished."""
        return (variant, seed) in self._found()

    def of(self, variant, seed):
        """Returns the row of a finished run."""
        return self._found()[variant, seed]

    def all(self):
        """Returns the rows of all finished runs."""
        return list(self._found().values())

    def source(self, variant, seed):
        """Returns the files that the row of a finished run is in, as a text."""
        in_table = any((r.variant, r.seed) == (variant, seed) for r in self._in_table())
        files = [self.path] if in_table else []
        before = self._before(variant, seed)
        return " and ".join(map(str, files + [before] * before.exists()))

    def add(self, *rows):
        """Keeps rows of finished runs, and the epochs of all whose folders are there.

        Without any it brings what is there into the two tables.

        Args:
            *rows: The rows; each replaces one of its variant and seed.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with in_turn(self.folder):
            found = self._sorted([*self._found().values(), *rows])
            epochs = self._epochs(found)
            # First, since a line of the other table says that the run is whole.
            if epochs:
                write_rows(self.folder / "history.csv", epochs)
            if found:
                write_rows(self.path, [as_line(row) for row in found.values()])

    def brought_up(self):
        """Returns all rows, once the tables and the settings of the folder have them.

        Raises:
            ValueError: If there are none.
        """
        if not (found := self.all()):
            raise ValueError(f"{self.path} has no runs; give the folder of a study.")
        check_folder(self.folder)
        self.add()
        write_settings(self.folder, settings_in(self.folder))
        return found

    def _found(self):
        """Returns a dict from variants and seeds to rows, in their order."""
        paths = sorted((self.folder / "rows").glob("*.json"))
        return self._sorted([*map(self._from_json, paths), *self._in_table()])

    def _in_table(self):
        return [self._from_line(line) for line in read_rows(self.path)]

    def _sorted(self, rows):
        found = {(row.variant, row.seed): row for row in rows}
        return dict(sorted(found.items(), key=lambda item: self._place(*item[0])))

    def _place(self, variant, seed):
        return self.places.get(variant, len(self.places)), variant, seed

    def _epochs(self, runs):
        """Returns the lines of `history.csv`: those there, and those of the folders."""
        found = {}
        path = self.folder / "history.csv"
        for line in read_rows(path):
            try:
                run = line["variant"], int(line["seed"])
            except (KeyError, TypeError, ValueError) as error:
                raise damaged_table(path, error) from None
            found.setdefault(run, []).append(line)
        for run in runs:
            lines = read_rows(run_folder(self.folder, *run) / "history.csv")
            names = dict(zip(("variant", "seed"), run, strict=True))
            if lines:
                found[run] = [names | line for line in lines]
        order = sorted(found, key=lambda run: self._place(*run))
        return [line for run in order for line in found[run]]

    def _before(self, variant, seed):
        return self.folder / "rows" / f"{variant}_seed_{seed}.json"

    def _from_json(self, path):
        remedy = "remove it, and the run is trained again"
        row = read_json(path, remedy)
        try:
            return self.kind(**row)
        except TypeError as error:
            raise ValueError(f"{path} is damaged ({error}); {remedy}.") from None

    def _from_line(self, line):
        try:
            fields = dataclasses.fields(self.kind)
            return self.kind(**{f.name: value_of(line[f.name], f.type) for f in fields})
        except (KeyError, TypeError, ValueError) as error:
            raise damaged_table(self.path, error) from None


def run_folder(folder, variant, seed):
    """Returns the folder of a run of a study."""
    return folder / variant / f"seed_{seed}"


def as_line(row):
    """Returns a row as a dict of what a line of a CSV file can hold."""
    line = dataclasses.asdict(row)
    for name, value in line.items():
        if isinstance(value, dict | list):
            line[name] = json.dumps(value)
    return line


def value_of(cell, kind):
    """Returns what a cell of a CSV file holds.

    Args:
        cell: Its text; None is a cell that is missing.
        kind: Type of the field.
    """
    kinds = typing.get_args(kind) or (kind,)
    value = cell if str in kinds else json.loads(cell or "null")
    value = None if value == "" else value
    # A whole number of minutes is one as well.
    if not isinstance(value, (*kinds, int) if float in kinds else kinds):
        raise ValueError(f"{cell!r} is no {kind}")
    return value


def keep_settings(study):
    """Writes the settings of a study, or raises if they are not those it has.

    Args:
        study: What has an output folder and settings.

    Raises:
        ValueError: If the folder is of a study with others, or has rows of which nobody
            knows the settings.
    """
    settings = json.loads(json.dumps(study.settings()))
    there = settings_in(study.output)
    if not there and (paths := _rows_in(study.output)):
        raise ValueError(
            f"{paths[0]} has finished runs, and nothing there says what their settings "
            f"were; copy the {_SETTINGS} of the study beside it, or give another "
            "output folder."
        )
    here, there = flat(settings), flat(there or settings)
    for name in {**there, **here}:
        if there.get(name) != here.get(name):
            raise ValueError(
                f"{study.output} is a study with {name}={there.get(name)!r} and this "
                f"one has {here.get(name)!r}; start again with its settings, or give "
                "another output folder."
            )
    write_settings(study.output, settings)


def _rows_in(folder):
    """Returns the paths of the files with finished runs, a list."""
    return [*folder.glob("results.csv"), *folder.glob("rows/*.json")]


def settings_in(folder):
    """Returns the settings that a study has; an empty dict if it has none."""
    for name in (_SETTINGS, _SETTINGS_BEFORE):
        if (folder / name).exists():
            remedy = "rename it and start again with the settings of the study"
            return read_json(folder / name, remedy)
    return {}


def write_settings(folder, settings):
    """Writes the settings of a study, where there are any."""
    if settings:
        write_json(folder / _SETTINGS, settings)


def flat(settings):
    """Returns a dict whose values are no dicts: {"a": {"b": 1}} is {"b": 1}."""
    found = {}
    for name, value in settings.items():
        found |= flat(value) if isinstance(value, dict) else {name: value}
    return found
