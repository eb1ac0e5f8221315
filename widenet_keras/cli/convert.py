"""`widenet convert`: trained weights of another library taken in, and the way out."""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import tyro

from widenet_keras.cli.checks import check_at_least, check_exists, check_memory_flag
from widenet_keras.utils.command_line import USAGE, stop
from widenet_keras.utils.memory import memory_of
from widenet_keras.utils.printable import printable_lines

# Flags that say what a source does not.
_OF_SOURCES = (
    *("activation", "norm_epsilon", "mean", "std", "heads"),
    *("num_classes", "image_size", "revision"),
)


@dataclasses.dataclass
class Convert:
    """Take in a Vision Transformer that another library trained, or hand one out.

    Weights of timm, DeiT, DINO, DINOv2, MAE, Hugging Face, KerasHub, Google and
    OpenCLIP become a .keras file that gives the same answers; with --to timm a .keras
    file becomes weights of timm.
    """

    source: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE")]
    """A file (.safetensors, .bin, .pth, .npz, .weights.h5), a folder of it and its
    configuration, or hub:OWNER/NAME; with --to timm a .keras file."""
    place: Annotated[
        Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="OUTPUT")
    ] = None
    """What to write, said here or with --output."""
    output: Path | None = None
    """The .keras file to write; with --to timm a .safetensors file."""
    to: Literal["timm"] | None = None
    """Write weights of another library."""
    heads: int | None = None
    """Attention heads, where neither file nor configuration tells them."""
    activation: Literal["gelu", "gelu_tanh", "quick_gelu", "silu", "relu"] | None = None
    """Activation, where nothing tells it; like the next three it wins if given."""
    norm_epsilon: float | None = None
    """What norms add to the variance."""
    mean: tuple[float, ...] | None = None
    """Mean of the source's images, of pixels / 255: one number or one a channel."""
    std: tuple[float, ...] | None = None
    """Standard deviation of these images."""
    num_classes: int | None = None
    """Other classes start the last layer anew."""
    image_size: int | None = None
    """Side of the images, to which the positions are resampled."""
    revision: str | None = None
    """Branch, tag or commit on the hub."""
    max_memory: str = "2G"
    """Memory that packed arrays or a model may take beyond what the file weighs."""
    backend: Literal["tensorflow", "jax", "torch"] | None = None
    """Keras backend; otherwise KERAS_BACKEND or Keras' own configuration."""

    def check(self):
        """Says what is wrong with the words, before Keras is imported."""
        if (self.place is None) == (self.output is None):
            line = "give one output: widenet convert SOURCE OUTPUT; see --help."
            stop("widenet convert", line, USAGE)
        self.output = self.output or self.place
        check_at_least("convert", "--heads", self.heads)
        check_at_least("convert", "--image-size", self.image_size)
        check_at_least("convert", "--num-classes", self.num_classes, 0)
        suffix = ".safetensors" if self.to else ".keras"
        if self.output.suffix != suffix:
            raise ValueError(f"{self.output} must end in {suffix}.")
        if self.to:
            self._check_way_out()
        elif not self.source.startswith(("hub:", "hf://")):
            check_exists(Path(self.source), "a file, a folder, or hub:OWNER/NAME")
        check_memory_flag("convert", self.max_memory)

    def _check_way_out(self):
        """Says what is wrong with the words where a .keras file is the source."""
        check_exists(Path(self.source), "the path of a .keras file")
        for name in _OF_SOURCES:
            if getattr(self, name) is not None:
                flag = f"--{name.replace('_', '-')}"
                line = f"{flag} is of weights that are taken in; leave it out."
                stop("widenet convert", line, USAGE)

    def run(self):
        """Converts and writes."""
        from widenet_keras.conversions.from_weights import from_weights
        from widenet_keras.conversions.to_timm import to_timm
        from widenet_keras.files.named import named_classifier
        from widenet_keras.utils.files import check_file

        check_file(self.output)
        if self.to:
            model = named_classifier(self.source, memory_of(self.max_memory))
            written = to_timm(model, self.output)
            _say(f"written: {', '.join(map(str, written))}")
            return
        said = {name: getattr(self, name) for name in _OF_SOURCES}
        said = {name: value for name, value in said.items() if value is not None}
        memory = memory_of(self.max_memory)
        model = from_weights(self.source, say=_say, max_memory=memory, **said)
        model.save(self.output)
        _say(f"written: {self.output}")


def _say(text):
    print(printable_lines(text), flush=True)
