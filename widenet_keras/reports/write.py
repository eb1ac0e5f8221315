"""Writing the report: one page that needs nothing but itself."""

import base64
import hashlib
import html
import json
import os
import re
from importlib import resources
from pathlib import Path

import numpy as np

from widenet_keras.data.pixels import check_values
from widenet_keras.evaluation import Evaluation
from widenet_keras.models.image_checks import check_images, check_labels
from widenet_keras.models.needs_classes import check_has_classes
from widenet_keras.reports.content import report_content
from widenet_keras.reports.run_record import RunRecord, read_run
from widenet_keras.reports.samples import sample_content
from widenet_keras.training.image_classifier import ImageClassifier
from widenet_keras.utils.checks import check_integer, check_path
from widenet_keras.utils.files import check_file, replaced_when_done

_PAGE = resources.files(__package__) / "page"
# In the order in which they need each other.
_PROGRAM = (
    "dom",
    "data",
    "charts",
    "evaluation",
    "training",
    "views",
    "explorer",
    "main",
)


def write_report(
    model: ImageClassifier,
    path: str | os.PathLike,
    *,
    evaluation: Evaluation | None = None,
    images: np.ndarray | None = None,
    labels: np.ndarray | None = None,
    run: str | os.PathLike | RunRecord | None = None,
    data: str | None = None,
    model_file: str | os.PathLike | None = None,
    samples: int = 16,
) -> None:
    """Writes a page about a classifier that any browser shows, without a network.

    What is not given is not on the page, and the page says so.

    Args:
        model: An `ImageClassifier`; need not be compiled.
        path: The HTML file to make or replace.
        evaluation: The `Evaluation` of `evaluate_classifier`.
        images: Images to look at, (B, height, width, channels) float in [-1, 1].
        labels: (B,) the class of each.
        run: Folder of the run that made the model, or what `read_run` read of it.
        data: What the evaluation and the images are of, one line.
        model_file: Path of the model, for the page to name.
        samples: How many of the images the page shows, at most.

    Raises:
        ValueError: If the model has no classes, the images or labels do not fit it,
            or the file cannot be written.
    """
    check_path("write_report", path)
    check_file(path)
    check_has_classes("write_report", model)
    check_integer("write_report", "samples", samples, 1)
    if run is not None and not isinstance(run, RunRecord):
        run = read_run(run)
    shown = None
    if images is not None and len(images):
        shown = _samples(model, images, labels, samples)
    file = None if model_file is None else Path(model_file)
    content = report_content(model, run, evaluation, data, shown, file)
    with replaced_when_done(path) as fresh:
        # As bytes: the digests in it are those of line breaks as they are here.
        fresh.write_bytes(page_of(content).encode("utf-8"))


def page_of(content: dict) -> str:
    """Returns the page that shows a `report_content`.

    Args:
        content: The dict.
    """
    parts = [(_PAGE / f"{name}.js").read_text("utf-8") for name in _PROGRAM]
    program = "\n".join(['(() => {\n"use strict";', *parts, "})();\n"])
    style = (_PAGE / "page.css").read_text("utf-8")
    filled = {
        "title": html.escape(f"{content['name']}: report"),
        "policy": (
            f"default-src 'none'; img-src data:; style-src {_allowed(style)}; "
            f"script-src {_allowed(program)}"
        ),
        "style": style,
        "content": embedded(content),
        "program": program,
    }
    frame = (_PAGE / "page.html").read_text("utf-8")
    # All at once, so that nothing that is filled in is filled in itself.
    return re.sub(r"\{\{(\w+)\}\}", lambda found: filled[found[1]], frame)


def embedded(content: dict) -> str:
    """Returns JSON that no text in it can lead out of its element of a page.

    Args:
        content: The dict.
    """
    text = json.dumps(content, allow_nan=False, separators=(",", ":"))
    for each in "<>&":
        text = text.replace(each, f"\\u{ord(each):04x}")
    return text


def _allowed(text):
    """Returns how a policy allows one script or style, by its digest."""
    digest = base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest())
    return f"'sha256-{digest.decode('ascii')}'"


def _samples(model, images, labels, count):
    images = np.asarray(images)
    check_images(images, model.config.image_shape)
    check_values(images)
    images = images.astype("float32")
    if labels is not None:
        labels = np.asarray(labels)
        check_labels(labels, model.config.num_classes)
        if labels.shape != images.shape[:1]:
            raise ValueError(
                f"write_report: {len(images)} images and labels of shape "
                f"{labels.shape}; give one whole number per image."
            )
    return sample_content(model, images, labels, count)
