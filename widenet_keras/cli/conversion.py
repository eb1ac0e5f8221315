"""What the commands have in common that make one model of another."""

import dataclasses
import os
import shutil
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import tyro

from widenet_keras.cli.checks import (
    check_exists,
    check_memory_flag,
    check_not_read,
)
from widenet_keras.utils.memory import memory_of
from widenet_keras.utils.printable import printable, printable_lines

# Images on which both models are asked.
_IMAGES = 4


@dataclasses.dataclass(kw_only=True)
class Conversion:
    """A command that reads a .keras file and writes another one.

    What it says of both models is their parts, parameters and arithmetic, and how far
    their answers are apart. Class names and preprocessing are in the file that it
    writes, and a `labels.txt` beside the model is put beside that too.
    """

    command: ClassVar[str]
    # What of the model stays, a line; may be a property.
    exact: ClassVar[str]
    # Whether both models are asked about the same images.
    compares: ClassVar[bool] = True

    model: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    """A .keras file, as model.save() writes."""
    output: Path
    """The .keras file to write."""
    max_memory: str = "2G"
    """Memory that the model may take beyond what its file weighs."""
    backend: Literal["tensorflow", "jax", "torch"] | None = None
    """Keras backend; otherwise KERAS_BACKEND or Keras' own configuration."""

    def check(self):
        """Says what is wrong with the words, before Keras is imported."""
        check_exists(self.model, "the path of a .keras file")
        if self.output.suffix != ".keras":
            raise ValueError(f"{self.output} must end in .keras.")
        check_not_read(self.output, self.inputs(), "--output")
        check_memory_flag(self.command, self.max_memory)

    def inputs(self):
        """Returns the files that are read."""
        return [self.model]

    def convert(self, model):
        """Returns what becomes of the model."""
        raise NotImplementedError

    def run(self):
        """Converts, compares, prints and writes."""
        from widenet_keras.files.named import named_classifier
        from widenet_keras.models.description import describe
        from widenet_keras.models.flops import forward_flops
        from widenet_keras.utils.files import check_file

        check_file(self.output)
        before = named_classifier(self.model, memory_of(self.max_memory))
        say(describe(before))
        try:
            after = self.convert(before)
        except ValueError as error:
            # The command's own name stands in front of it already.
            owner = f"{self.command.replace('-', '_')}: "
            raise ValueError(str(error).removeprefix(owner)) from error
        say(describe(after))
        parameters = after.count_params() / before.count_params()
        flops = forward_flops(after.config) / forward_flops(before.config)
        say(f"after / before: {parameters:.3g} parameters, {flops:.3g} FLOPs")
        say(f"exact: {self.exact}")
        if self.compares:
            say(_apart(before, after))
        after.save(self.output)
        say(f"written: {self.output}{self._labels()}")

    def _labels(self):
        """Puts the model's `labels.txt` beside the output; returns what it made."""
        from widenet_keras.files.checksums import LABELS
        from widenet_keras.utils.files import replaced_when_done

        source, place = (each.with_name(LABELS) for each in (self.model, self.output))
        # One that is there may be of another model.
        if not source.is_file() or os.path.lexists(place):
            return ""
        with replaced_when_done(place) as fresh:
            shutil.copyfile(source, fresh)
        return f", {printable(place)}"


def say(text):
    """Prints lines of our own."""
    print(printable_lines(text), flush=True)


def _apart(before, after):
    """Returns how far the answers of two models are apart, a line."""
    import keras
    import numpy as np

    shape = _IMAGES, *before.config.image_shape
    images = np.random.default_rng(0).uniform(-1, 1, shape).astype("float32")
    found, wanted = (
        keras.ops.convert_to_numpy(each(images, training=False)).astype("float32")
        for each in (after, before)
    )
    largest = np.abs(found - wanted).max() / max(np.abs(wanted).max(), 1e-12)
    return (
        f"{before.config.output_name} of {_IMAGES} random images differ by at most "
        f"{largest:.1e} of the largest"
    )
