"""All that a page shows, as one dict that JSON can hold."""

import math
from pathlib import Path

import numpy as np

from widenet_keras.models.description import describe
from widenet_keras.plot.figure import EXPERT_COLORS
from widenet_keras.reports.facts import (
    made_with,
    metric_facts,
    model_facts,
    title_of,
    training_facts,
)
from widenet_keras.reports.run_record import RunRecord
from widenet_keras.utils.printable import printable


def report_content(
    model,
    run: RunRecord | None = None,
    evaluation=None,
    data: str | None = None,
    samples: dict | None = None,
    file: Path | None = None,
) -> dict:
    """Returns the dict that the page's program draws.

    No text in it has characters that cannot be seen, and no number is NaN.

    Args:
        model: An `ImageClassifier`.
        run: `RunRecord` of the run that made it.
        evaluation: An `Evaluation`.
        data: Line that says what it was evaluated on.
        samples: As `sample_content` returns it.
        file: Path of the model.
    """
    names = model.class_names or range(model.config.num_classes)
    content = {
        "name": title_of(model, run, file),
        "made_with": made_with(),
        "model_file": None if file is None else str(file),
        "facts": model_facts(model),
        "parts": describe(model).split("\n"),
        "classes": [str(name) for name in names],
        "run": None if run is None else _run_content(run),
        "evaluation": None if evaluation is None else evaluation.to_dict(),
        "data": data,
        "samples": samples,
        "colours": EXPERT_COLORS,
    }
    return _plain(content)


def _run_content(run):
    loads = None
    if run.loads is not None:
        epochs, steps, values = run.loads
        loads = {"epochs": epochs, "steps": steps, "values": np.round(values, 4)}
    return {
        "finished": run.finished,
        "notes": run.notes,
        "settings": training_facts(run),
        "metrics": metric_facts(run),
        "epochs": run.epochs,
        "history": run.history,
        "loads": loads,
    }


def _plain(value):
    """Returns a value as JSON holds it, with texts that are safe to show."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, dict):
        return {_plain(name): _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return printable(value) if isinstance(value, str) else value
