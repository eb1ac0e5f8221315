"""A card of a model, filled in from its own numbers."""

import os
import shlex
from pathlib import Path

from widenet_keras.evaluation import Evaluation
from widenet_keras.evaluation.report import summary
from widenet_keras.models.needs_classes import check_has_classes
from widenet_keras.reports.facts import (
    made_with,
    metric_facts,
    model_facts,
    percent,
    title_of,
    training_facts,
)
from widenet_keras.reports.run_record import RunRecord, read_run
from widenet_keras.training.image_classifier import ImageClassifier
from widenet_keras.utils.checks import check_path
from widenet_keras.utils.digests import sha256_of
from widenet_keras.utils.files import check_file, replaced_when_done
from widenet_keras.utils.printable import printable
from widenet_keras.utils.tables import markdown_table, markdown_text

_HARDEST = 5


def write_model_card(
    model: ImageClassifier,
    path: str | os.PathLike,
    *,
    evaluation: Evaluation | None = None,
    run: str | os.PathLike | RunRecord | None = None,
    data: str | None = None,
    model_file: str | os.PathLike | None = None,
) -> None:
    """Writes what is known of a classifier in Markdown, as a README of its folder.

    What the model cannot know of itself, such as its licence, is "not stated".

    Args:
        model: An `ImageClassifier`; need not be compiled.
        path: The Markdown file to make or replace.
        evaluation: The `Evaluation` of `evaluate_classifier`.
        run: Folder of the run that made the model, or what `read_run` read of it.
        data: What the evaluation is of, one line.
        model_file: Path of the model, for its size and its checksum.

    Raises:
        ValueError: If the model has no classes, or the file cannot be written.
    """
    check_path("write_model_card", path)
    check_file(path)
    check_has_classes("write_model_card", model)
    if run is not None and not isinstance(run, RunRecord):
        run = read_run(run)
    file = None if model_file is None else Path(model_file)
    rows = _card(model, evaluation, run, data, file)
    blocks = [
        _front_matter(model),
        f"# {markdown_text(title_of(model, run, file))}",
        markdown_table(("", ""), [(n, markdown_text(value)) for n, value in rows]),
        *_results(evaluation, run),
        *_settings(run),
        _use(file),
    ]
    text = "\n\n".join(blocks) + "\n"
    with replaced_when_done(path) as fresh:
        fresh.write_bytes(text.encode("utf-8", "backslashreplace"))


def _front_matter(model):
    """Returns what the Hugging Face Hub reads, of which each line is true.

    A licence is left to who publishes the model.
    """
    tags = ["keras", "vision-transformer"]
    tags += ["mixture-of-experts"] if model.config.routed_steps else []
    lines = ["library_name: widenet_keras", "pipeline_tag: image-classification"]
    return "\n".join(["---", *lines, "tags:", *(f"- {tag}" for tag in tags), "---"])


def _card(model, evaluation, run, data, file):
    """Returns the rows of the form of `saved_models/model_card.md`."""
    facts = dict(model_facts(model))
    settings = dict(training_facts(run)) if run else {}
    measured = "not measured"
    if evaluation is not None:
        measured = f"{percent(evaluation.top1)} of {evaluation.count:,} images"
        measured += f" ({data})" if data else ""
    elif run and isinstance(run.metrics.get("accuracy"), int | float):
        measured = f"{percent(run.metrics['accuracy'])}, as the run measured it"
    speed = evaluation and evaluation.throughput.images_per_second
    latency = "not measured"
    if speed:
        throughput = evaluation.throughput
        latency = f"{speed:,.1f} images/s in batches of {throughput.batch_size}"
        latency += f" on {throughput.backend}, on the machine of the evaluation"
    known = file is not None and file.is_file()
    shape = ", ".join(map(str, model.config.image_shape))
    return [
        (
            "model",
            f"{facts['architecture']}; experts: {facts['experts']}; "
            f"{facts['parameters']} parameters, {facts['forward pass']}",
        ),
        ("data", model.trained_on or settings.get("data", "not stated")),
        ("recipe", _recipe(run, settings)),
        ("accuracy", measured),
        ("size", f"{file.name} {file.stat().st_size:,} bytes" if known else "-"),
        ("latency", latency),
        ("input", f"float32 (B, {shape}) in [-1, 1]: {facts['of each image']}"),
        ("output", f"logits (B, {model.config.num_classes}): {facts['classes']}"),
        ("limits", f"knows no classes but these; {_hardest(evaluation)}"),
        ("licence", "of the model: not stated; of the data: not stated"),
        (
            "card made with",
            made_with(),
        ),
        ("checksum", f"{file.name} {sha256_of(file)}" if known else "-"),
    ]


def _recipe(run, settings):
    """Returns how it was trained, in a line."""
    if run is None:
        return "not stated"
    names = ("preset", "checkpoint", "batch_size", "optimization.optimizer")
    names += ("optimization.learning_rate", "backend")
    told = [(name, settings[name]) for name in names if name in settings]
    epochs = f"{run.epochs[-1]} epochs" if run.epochs else "epochs not stated"
    state = "" if run.finished else "; the run had not ended"
    return f"{epochs}; {_listed(told)}{state}" if told else f"{epochs}{state}"


def _hardest(evaluation):
    """Returns what is known of where it fails."""
    if evaluation is None:
        return "known failures: not stated"
    each = min(_seen(evaluation), key=lambda each: each.accuracy)
    return f"of its hardest one, {each.name}, it recognises {percent(each.accuracy)}"


def _seen(evaluation):
    return [each for each in evaluation.classes if each.count]


def _results(evaluation, run):
    """Returns what was measured."""
    if evaluation is None:
        rows = metric_facts(run) if run else []
        return ["## Results", _table(("", ""), rows)] if rows else []
    hardest = sorted(_seen(evaluation), key=lambda each: each.accuracy)[:_HARDEST]
    rows = [
        (
            each.name,
            f"{each.count:,}",
            percent(each.accuracy),
            f"{each.confused_with} ({each.confused})" if each.confused else "-",
        )
        for each in hardest
    ]
    header = ("class", "images", "accuracy", "most often taken for")
    blocks = ["## Results", _table(("", ""), summary(evaluation))]
    return [*blocks, "The hardest classes:", _table(header, rows)]


def _settings(run):
    """Returns all settings of a run."""
    if run is None or not run.settings:
        return []
    return ["## Settings", _table(("setting", "value"), training_facts(run))]


def _use(file):
    """Returns how the model is used."""
    name = "model.keras" if file is None else printable(file.name)
    return (
        "## Use\n\n"
        "```python\n"
        "import widenet_keras\n\n"
        f"model = widenet_keras.load_model({name!r})\n"
        "```\n\n"
        f"    widenet predict IMAGE --model {shlex.quote(name)}"
    )


def _listed(pairs):
    return ", ".join(f"{name} {value}" for name, value in pairs)


def _table(header, rows):
    return markdown_table(header, [tuple(map(markdown_text, row)) for row in rows])
