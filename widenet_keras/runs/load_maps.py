"""Which expert does how much while a model is trained."""

from pathlib import Path

import keras
import numpy as np

from widenet_keras.distribution.single import ONE_DEVICE
from widenet_keras.files.run_tables import loads_of, read_load_table
from widenet_keras.plot import plot_load, plot_load_history
from widenet_keras.utils.files import replaced_when_done
from widenet_keras.utils.tables import write_rows


class LoadMaps(keras.callbacks.Callback):
    """Writes the load of every expert at every step after every epoch.

    For some images: `epoch_0001.png` and its successors as pictures, and `load.csv`
    with a row per epoch and step: the fraction of its choices that each expert got.
    A run that goes on replaces the rows of epochs that it repeats.

    Args:
        images: NumPy array (B, height, width, channels) in [-1, 1].
        folder: Where the files go.
        every: Epochs between two maps.
        distribution: `Distribution` of the job.
    """

    def __init__(self, images, folder, every=1, distribution=ONE_DEVICE):
        super().__init__()
        self.distribution = distribution
        self.images = np.asarray(images)
        self.folder = Path(folder)
        self.every = every
        self.table = self.folder / "load.csv"

    def on_epoch_end(self, epoch, logs=None):
        """Writes the picture and the rows of this epoch."""
        if (epoch + 1) % self.every:
            return
        with self.distribution.logical_weights(self.model):
            routing = self.model.routing(self.images)
        with replaced_when_done(self.folder / f"epoch_{epoch + 1:04d}.png") as path:
            plot_load(routing, path)
        before = [
            row for row in read_load_table(self.table) if int(row["epoch"]) <= epoch
        ]
        write_rows(self.table, before + _rows(epoch + 1, routing))


def draw_load_table(table, path):
    """Draws a table of `LoadMaps`; nothing if it is not there.

    Args:
        table: The CSV file.
        path: The PNG to make or replace.
    """
    rows = read_load_table(table)
    if not rows:
        return
    with replaced_when_done(path) as fresh:
        plot_load_history(*loads_of(rows), fresh)


def _rows(epoch, routing):
    """Returns a row per step."""
    return [
        {
            "epoch": epoch,
            "step": step,
            **{f"expert_{index}": round(each, 5) for index, each in enumerate(load)},
        }
        for step, load in zip(routing.steps, routing.load().tolist(), strict=True)
    ]
