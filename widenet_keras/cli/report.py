"""`widenet report`: a run or a model as one page to look at."""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import tyro

from widenet_keras.cli.checks import (
    check_at_least,
    check_data,
    check_exists,
    check_memory_flag,
    check_needs_data,
)
from widenet_keras.utils.memory import memory_of
from widenet_keras.utils.printable import printable

# So many images are looked at for each that is shown, to find mistakes among them.
_LOOKED_AT = 8
_IMAGES = 16


@dataclasses.dataclass
class Report:
    """Write a run or a model as one page to look at, without a network.

    Curves, evaluation, the experts over training, and for each patch of some images
    its experts and where it looks.
    `widenet report saved_models/digits/model.keras --data digits` needs no data.
    """

    model: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN_OR_MODEL")]
    """The folder of a run, also of one that has not ended, or a .keras file."""
    data: str | None = None
    """"digits", or where labelled images are: class folders, TFRecords, an .npz
    file, or tfds:NAME. Without any nothing is evaluated or looked at."""
    data_dir: Path | None = None
    """Where TFDS keeps its data sets."""
    split: str = "validation"
    """Part of the data."""
    batch_size: int = 64
    """Images per forward pass; no result depends on it."""
    images: int | None = None
    """How many of the images of --data to show, at most; 16 if not given."""
    output: Path = Path("report.html")
    """The page to make or replace."""
    card: Path | None = None
    """Where to write a card of the model as well, in Markdown."""
    on_error: Literal["raise", "skip"] = "raise"
    """What to do with an image that cannot be read."""
    max_memory: str = "2G"
    """Memory that the model may take beyond what its file weighs."""
    backend: Literal["tensorflow", "jax", "torch"] | None = None
    """Keras backend; otherwise KERAS_BACKEND or Keras' own configuration."""

    def check(self):
        """Says what is wrong with the words, before Keras is imported."""
        check_at_least("report", "--batch-size", self.batch_size)
        check_at_least("report", "--images", self.images)
        check_memory_flag("report", self.max_memory)
        check_exists(self.model, "the folder of a run, or the path of a .keras file")
        check_data(self.data, self.split)
        check_needs_data("--images", self.images, self.data)
        for flag, path, suffix in (
            ("--output", self.output, ".html"),
            ("--card", self.card, ".md"),
        ):
            # What else there is, such as the tables of a run, is not written over.
            if path is not None and path.suffix != suffix:
                raise ValueError(f"{flag} {path} must end in {suffix}.")

    def run(self):
        """Evaluates, looks and writes."""
        from widenet_keras.files.named import named_classifier
        from widenet_keras.reports import write_model_card, write_report
        from widenet_keras.reports.run_record import model_file_of, read_run
        from widenet_keras.utils.files import check_file

        run, file = None, self.model
        if self.model.is_dir():
            run = read_run(self.model)
            file = model_file_of(self.model, run)
        for path in (self.output, self.card):
            if path is not None:
                check_file(path)
        model = named_classifier(file, memory_of(self.max_memory))
        for note in run.notes if run else ():
            print(printable(note))
        found = {"run": run, "model_file": file}
        samples = {"samples": self.images or _IMAGES}
        if self.data is not None:
            evaluated, looked_at = self._evaluated(model, file)
            found, samples = found | evaluated, samples | looked_at
        write_report(model, self.output, **found, **samples)
        print(printable(f"written to {self.output}"))
        if self.card is not None:
            write_model_card(model, self.card, **found)
            print(printable(f"written to {self.card}"))

    def _evaluated(self, model, file):
        """Returns the evaluation and what it is of; images and labels to look at."""
        from widenet_keras.data.labelled import labelled_batches, labelled_images
        from widenet_keras.evaluation import evaluate_classifier
        from widenet_keras.utils.quiet import quiet

        where = (model, self.data, self.split, self.data_dir)
        with quiet():
            batches, class_names, description = labelled_batches(
                *where, self.batch_size, self.on_error
            )
            count = _LOOKED_AT * (self.images or _IMAGES)
            looked_at = labelled_images(*where, count, self.on_error)
        print(printable(f"{file} on {description}"), flush=True)
        if model.class_names is None:
            model.class_names = class_names
        evaluation = evaluate_classifier(model, batches, class_names)
        return (
            {"evaluation": evaluation, "data": description},
            {"images": looked_at[0], "labels": looked_at[1]},
        )
