"""`widenet measure`: how long the parts of a model take here, by their sizes."""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import tyro

from widenet_keras.cli.checks import check_at_least, check_exists, check_memory_flag
from widenet_keras.cli.conversion import say
from widenet_keras.utils.memory import memory_of

# Timings of one thing that differ by more, by part, are not worth much.
_STEADY = 0.2


@dataclasses.dataclass
class Measure:
    """Time attention and feed-forward parts by their sizes, on this machine.

    The table that it writes is for pruning by latency instead of arithmetic. The
    model's weights do not matter, its sizes do.
    """

    model: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    """A .keras file, as model.save() writes."""
    output: Path
    """The .json file to write."""
    device: str | None = None
    """Where to compute, such as cpu, gpu or gpu:1; otherwise where Keras does."""
    batch_size: int = 1
    """Images per forward pass, as many as the model will be given at once."""
    repeats: int = 25
    """Timings of each size, of which the median counts."""
    max_memory: str = "2G"
    """Memory for the model beyond its file's weight, and for all that are timed."""
    backend: Literal["tensorflow", "jax", "torch"] | None = None
    """Keras backend; otherwise KERAS_BACKEND or Keras' own configuration."""

    def check(self):
        """Says what is wrong with the words, before Keras is imported."""
        check_at_least("measure", "--batch-size", self.batch_size)
        check_at_least("measure", "--repeats", self.repeats)
        check_memory_flag("measure", self.max_memory)
        check_exists(self.model, "the path of a .keras file")
        if self.output.suffix != ".json":
            raise ValueError(f"{self.output} must end in .json.")

    def run(self):
        """Measures, prints and writes."""
        from widenet_keras.conversions.measure import measure_latency
        from widenet_keras.files.loading import load_classifier
        from widenet_keras.utils.devices import device_named
        from widenet_keras.utils.files import check_file

        # Before the model is read, which may take long.
        device = device_named("--device", self.device)
        check_file(self.output)
        memory = memory_of(self.max_memory)
        model = load_classifier(self.model, max_memory=memory)
        table = measure_latency(model, device, self.batch_size, self.repeats, memory)
        table.write(self.output)
        say(_shown(self.model, table, model.config))
        spread = table.measured["spread"]
        if spread > _STEADY:
            say(
                f"Timings of one thing differ by {spread:.0%}: something else runs "
                "here; measure again when nothing does."
            )
        whole, steps = table.whole, table.forward(model.config)
        if abs(steps - whole) > _STEADY * whole:
            say(
                f"The whole model takes {whole:.3g} ms and by its steps {steps:.3g}: "
                "the table is a rough guide to it."
            )
        say(f"written: {self.output}")


def _shown(path, table, config):
    """Returns a table of some sizes, as lines.

    Args:
        path: The model's file.
        table: `LatencyTable`.
        config: `WideNetConfig` of the model that was measured.
    """
    from widenet_keras.conversions.latency import AXES

    m = table.measured
    images = "1 image" if m["batch_size"] == 1 else f"{m['batch_size']} images"
    lines = [
        f"{path} on {m['device']}, {m['backend']} "
        f"{m['backend_version']}, {table.model['dtype']}, {images} at once; "
        "milliseconds:"
    ]
    # Along each axis, all others at their largest.
    for kind, grid in table.grids.items():
        largest = [axis[-1] for axis in grid.axes]
        for place, axis in enumerate(grid.axes):
            name = AXES[kind][place]
            sizes = [[*largest[:place], s, *largest[place + 1 :]] for s in axis]
            found = (f"{s[place]}: {grid.at(*s):.3g}" for s in sizes)
            lines.append(f"  {f'{kind}, {name}':<24}{', '.join(found)}")
    lines.append(f"  {'embedding and head':<24}{table.rest:.3g}")
    steps = f"{config.steps} steps by the table"
    lines.append(
        f"  {'whole model':<24}{table.whole:.3g}; with {steps} "
        f"{table.forward(config):.3g}"
    )
    return "\n".join(lines)
