"""Make one table of many runs: what they were started with, and what came out.

    pip install -e '.[tensorflow,recipes]'
    python recipes/collect.py --runs runs/tuning --output runs/tuning_tables

looks for folders of runs in `--runs`, at any depth, and writes `results.csv`, a line
per run with its metrics and those settings in which the runs differ, `settings.json`
with the settings that all share, and `history.csv`, a line per epoch of each run. A run
that was stopped has no metrics. Of a preset and its `--fields` the settings are all
fields of the model, so that runs can be compared that name other ones; of a folder they
are what was given. Cells are plain values or JSON; an empty one is a setting or a
metric that a run does not have.
"""

import dataclasses
import json
from pathlib import Path

import widenet_keras
from widenet_keras.utils.command_line import run_command
from widenet_keras.utils.files import check_folder
from widenet_keras.utils.json_files import read_json, write_json
from widenet_keras.utils.tables import read_rows, write_rows

FILES = ("settings.json", "metrics.json")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Collection:
    """Make one table of many runs."""

    runs: Path
    """Folder with the folders of the runs in it."""
    output: Path
    """Folder of the tables."""


def main(collection):
    """Reads what the runs left, and writes the tables."""
    found = [path for name in FILES for path in collection.runs.rglob(name)]
    # What tables are made of is not a table, nor the study whose runs are below, which
    # has none before the first of them has ended; a run may have others below.
    tables = {path.parent for path in collection.runs.rglob("results.csv")}
    above = {folder for path in found for folder in path.parent.parents}
    tables |= {folder for folder in above if not is_run(folder)}
    folders = sorted({path.parent for path in found} - {*tables, collection.output})
    if not folders:
        raise ValueError(
            f"{collection.runs} has no run in it, which is a folder with one of "
            f"{', '.join(FILES)}; give the folder that the runs are in."
        )
    check_folder(collection.output)
    settings = {folder: settings_of(folder) for folder in folders}
    first, *others = settings.values()
    shared = {
        name: value
        for name, value in first.items()
        if all(name in each and each[name] == value for each in others)
    }
    lines, epochs = [], []
    for folder in folders:
        name = {"run": folder.relative_to(collection.runs).as_posix()}
        own = {n: v for n, v in settings[folder].items() if n not in shared}
        values = own | content(folder / "metrics.json")
        lines.append(name | {n: cell(value) for n, value in values.items()})
        epochs += [name | line for line in read_rows(folder / "history.csv")]
    write_rows(collection.output / "results.csv", lines)
    write_json(collection.output / "settings.json", nested(shared))
    history = collection.output / "history.csv"
    if epochs:
        write_rows(history, epochs)
    else:
        # That of other runs, which were collected before.
        history.unlink(missing_ok=True)
    print(f"{len(lines)} runs are in {collection.output}/results.csv")


def is_run(folder):
    """Whether a folder has what only a run leaves, finished or not."""
    return any((folder / name).exists() for name in ("metrics.json", "checkpoints"))


def content(path):
    """Returns the dict of a JSON file; an empty one if there is no file."""
    return read_json(path, "remove it") if path.exists() else {}


def settings_of(folder):
    """Returns the settings of a run, named as in {"optimization.learning_rate": 1}."""
    settings = content(folder / "settings.json")
    known = settings.get("preset") in widenet_keras.presets()
    # A folder may have become another model since, or be gone; scripts and the notebook
    # have settings of their own.
    of_recipe = isinstance(settings.get("fields"), dict)
    if known and of_recipe and not settings.get("checkpoint"):
        fields = widenet_keras.models.parse_fields(settings.pop("fields"))
        config = widenet_keras.preset_config(settings.pop("preset"), **fields)
        settings["model"] = json.loads(json.dumps(config.to_dict()))
        # That of the preset; the run has that of its data.
        settings["model"].pop("num_classes")
    return flat(settings)


def flat(settings, before=""):
    """Returns settings without those that are None, each by its whole name."""
    found = {}
    for name, value in settings.items():
        if isinstance(value, dict) and value:
            found |= flat(value, f"{before}{name}.")
        elif value is not None:
            found[before + name] = value
    return found


def nested(settings):
    """Returns what `flat` was given."""
    found = {}
    for name, value in settings.items():
        *parents, last = name.split(".")
        place = found
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = value
    return found


def cell(value):
    """Returns a value as a text: itself, or as JSON where it would be another value."""
    try:
        json.loads(value)
    # Not of a text, or of one that is no JSON.
    except TypeError:
        return json.dumps(value)
    except ValueError:
        return value or json.dumps(value)
    return json.dumps(value)


if __name__ == "__main__":
    run_command(main, Collection)
