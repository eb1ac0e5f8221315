"""`widenet evaluate`: how good a saved classifier is on labelled images."""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import tyro

from widenet_keras.cli.checks import (
    check_at_least,
    check_data,
    check_exists,
    check_memory_flag,
)
from widenet_keras.utils.memory import memory_of
from widenet_keras.utils.printable import printable


@dataclasses.dataclass
class Evaluate:
    """Evaluate a saved classifier on labelled images.

    Prints accuracy, loss, calibration, routing and speed; `--output` keeps them.
    `widenet evaluate saved_models/digits/model.keras --data digits` needs no data.
    """

    model: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    """A .keras file, as model.save() writes."""
    data: str
    """"digits", which need no data, or where the images are: class folders,
    TFRecords, an .npz file, or tfds:NAME."""
    data_dir: Path | None = None
    """Where TFDS keeps its data sets."""
    split: str = "validation"
    """Part of the data."""
    batch_size: int = 64
    """Images per forward pass; no result depends on it."""
    image_size: int | None = None
    """Side of the images in pixels, if not that of the model: its position table
    is resampled."""
    output: Path | None = None
    """Folder for evaluation.json, evaluation.md and evaluation.png."""
    on_error: Literal["raise", "skip"] = "raise"
    """What to do with an image that cannot be read."""
    max_memory: str = "2G"
    """Memory that the model may take beyond what its file weighs."""
    backend: Literal["tensorflow", "jax", "torch"] | None = None
    """Keras backend; otherwise KERAS_BACKEND or Keras' own configuration."""

    def check(self):
        """Says what is wrong with the words, before Keras is imported."""
        check_at_least("evaluate", "--batch-size", self.batch_size)
        check_memory_flag("evaluate", self.max_memory)
        check_exists(self.model, "the path of a .keras file")
        check_data(self.data, self.split)

    def run(self):
        """Evaluates, prints and writes."""
        from widenet_keras.data.labelled import labelled_batches
        from widenet_keras.evaluation import evaluate_classifier
        from widenet_keras.evaluation.report import terminal
        from widenet_keras.utils.quiet import quiet

        model = self._model()
        if self.output is not None:
            self._prepare_output()
        with quiet():
            batches, class_names, description = labelled_batches(
                model,
                self.data,
                self.split,
                self.data_dir,
                self.batch_size,
                self.on_error,
            )
        taken = model.preprocessing.in_words(model.config.image_size)
        print(printable(f"{self.model} on {description}"))
        print(f"of each image: {taken}", flush=True)
        evaluation = evaluate_classifier(model, batches, class_names)
        print(f"\n{terminal(evaluation)}")
        if self.output is not None:
            self._write(evaluation)

    def _model(self):
        """Returns the model, for the size of the images."""
        from widenet_keras.files.named import named_classifier

        model = named_classifier(self.model, memory_of(self.max_memory))
        if self.image_size in (None, model.config.image_size):
            return model
        return model.with_image_size(self.image_size)

    def _prepare_output(self):
        """Fails now rather than after a long evaluation."""
        from widenet_keras.plot import load_matplotlib
        from widenet_keras.utils.files import check_folder

        load_matplotlib()
        check_folder(self.output)

    def _write(self, evaluation):
        """Writes the three files, each beside and then renamed."""
        from widenet_keras.utils.files import replaced_when_done
        from widenet_keras.utils.json_files import write_json

        facts = {"model": str(self.model), "data": self.data, "split": self.split}
        facts |= evaluation.to_dict()
        write_json(self.output / "evaluation.json", facts)
        with replaced_when_done(self.output / "evaluation.md") as path:
            text = evaluation.to_markdown()
            path.write_bytes(text.encode("utf-8", "surrogateescape"))
        with replaced_when_done(self.output / "evaluation.png") as path:
            evaluation.plot(path)
        print(f"\nwritten to {printable(self.output)}/")
