"""The folder of a training run: settings, checkpoints, tables and pictures."""

import importlib.util
import json
from pathlib import Path

import keras

from widenet_keras.distribution.single import ONE_DEVICE
from widenet_keras.inference.checksums import LABELS
from widenet_keras.inference.manifest import labels_text
from widenet_keras.plot import plot_history, plot_routing
from widenet_keras.training.callbacks import HistoryTable, Rates, StopOnNaN
from widenet_keras.training.checkpoints import AveragedEvaluation, Checkpoints
from widenet_keras.training.load_maps import LoadMaps, draw_load_table
from widenet_keras.training.progress import Progress
from widenet_keras.utils.files import remove_leftovers, replaced_when_done

# What runs of version 0.1.0 and its notebook call a setting.
_FORMERLY = {"epoch_steps": "epoch_batches", "steps": "epoch_batches"}


class Run:
    """What a run keeps in its folder, so that the same command goes on with it.

        settings.json           what the run was started with
        checkpoints/last.keras  the state after the last epoch
        checkpoints/best.keras  the best model so far, for use
        history.csv             one row per epoch
        load/epoch_0001.png     which expert did how much, step by step
        load/load.csv           the same of all epochs as numbers
        tensorboard/            curves for TensorBoard, where it is installed
        model.keras             the model at the end, for use
        labels.txt              the names of its classes
        curves.png              the table as curves
        routing.png             which expert each patch of an image went to
        load.png                how the load changed from epoch to epoch
        metrics.json            what `finish` was given

    Args:
        folder: The folder; made if it does not exist. Of several processes the
            first one writes it, and all must see it to go on with a run.
        settings: Dict of everything that changes the weights the run ends with.
        distribution: `Distribution` of the job.

    Raises:
        ValueError: If the folder is of a run with other settings.
    """

    def __init__(self, folder, settings, distribution=ONE_DEVICE):
        self.distribution = distribution
        self.folder = distribution.own_folder(folder)
        for kept in (self.folder, self.folder / "load"):
            remove_leftovers(kept)
        settings = json.loads(json.dumps(settings, default=str))
        path = Path(folder) / "settings.json"
        if path.exists():
            _check_same(path, json.loads(path.read_text()), settings)
        else:
            self._write_json("settings.json", settings)
        self.checkpoints = Checkpoints(
            Path(folder) / "checkpoints", distribution=distribution
        )
        self.table = HistoryTable(self.folder / "history.csv")

    def callbacks(self, model, batch_size, images=None):
        """Returns the callbacks of a run, in the order that they need.

        One of them prints; `fit` takes `verbose=0` beside it.

        Args:
            model: The compiled model.
            batch_size: Images per batch.
            images: NumPy array of images for the load maps, or None.
        """
        callbacks = [
            Rates(batch_size),
            StopOnNaN(self.checkpoints.last),
            Progress(self.distribution.is_chief),
        ]
        if model.optimizer.use_ema:
            callbacks.append(AveragedEvaluation())
        if _has_tensorboard():
            callbacks.append(
                keras.callbacks.TensorBoard(
                    str(self.folder / "tensorboard"), write_graph=False
                )
            )
        if images is not None and model.config.routed_steps:
            maps = LoadMaps(
                images, self.folder / "load", distribution=self.distribution
            )
            callbacks.append(maps)
        return [*callbacks, self.table, self.checkpoints]

    def finish(self, model, metrics, images=None, class_names=None):
        """Writes the model for use, the pictures and the metrics.

        Args:
            model: The trained model.
            metrics: Dict of what the run is to be known by.
            images: NumPy array of images for the picture of routing, or None.
            class_names: Names of the classes, one line each, or None.
        """
        with self.distribution.logical_weights(model):
            if self.distribution.saves:
                with self.distribution.apart():
                    model.adapted().save(self.folder / "model.keras")
            if images is not None and model.config.routed_steps:
                with replaced_when_done(self.folder / "routing.png") as path:
                    plot_routing(model.routing(images), images, path=path)
        if class_names is not None:
            with replaced_when_done(self.folder / LABELS) as path:
                path.write_text(labels_text({"class_names": class_names}), "utf-8")
        draw_load_table(self.folder / "load" / "load.csv", self.folder / "load.png")
        with replaced_when_done(self.folder / "curves.png") as path:
            plot_history(self.table.history(), path)
        self._write_json("metrics.json", metrics)

    def _write_json(self, name, content):
        with replaced_when_done(self.folder / name) as path:
            path.write_text(json.dumps(content, indent=2) + "\n")


def _has_tensorboard():
    # Keras' callback writes through TensorFlow, whatever backend trains.
    return all(importlib.util.find_spec(n) for n in ("tensorflow", "tensorboard"))


def _check_same(path, there, here):
    there = {_FORMERLY.get(name, name): value for name, value in there.items()}
    for name in {**there, **here}:
        if there.get(name) != here.get(name):
            raise ValueError(
                f"{path.parent} is of a run with {name}={there.get(name)!r} and this "
                f"one has {here.get(name)!r}; start again with the settings of the "
                "run, or give another output folder."
            )
