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
from widenet_keras.utils.files import remove_leftovers, replaced_when_done

# What runs of version 0.1.0 and its notebook call a setting.
_FORMERLY = {"epoch_steps": "epoch_batches", "steps": "epoch_batches"}
# What they do not have.
_SINCE = ("train_data", "validation_data")


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

        Args:
            model: The compiled model.
            batch_size: Images per batch.
            images: NumPy array of images for the load maps, or None.
        """
        callbacks = [Rates(batch_size), StopOnNaN(self.checkpoints.last)]
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

    def finish(self, model, metrics, images=None):
        """Writes the model for use, the pictures and the metrics.

        Args:
            model: The trained model.
            metrics: Dict of what the run is to be known by.
            images: NumPy array of images for the picture of routing, or None.
        """
        with self.distribution.logical_weights(model):
            if self.distribution.saves:
                with self.distribution.apart():
                    model.adapted().save(self.folder / "model.keras")
            if images is not None and model.config.routed_steps:
                with replaced_when_done(self.folder / "routing.png") as path:
                    plot_routing(model.routing(images), images, path=path)
        names = model.class_names or range(model.config.num_classes)
        with replaced_when_done(self.folder / LABELS) as path:
            path.write_text(labels_text(names), "utf-8")
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
    for name in _SINCE:
        there.setdefault(name, here.get(name))
    there, here = _flat(there), _flat(here)
    for name in {**there, **here}:
        if there.get(name) != here.get(name):
            before, now = _difference(there.get(name), here.get(name))
            raise ValueError(
                f"{path.parent} is of a run with {name}={before} and this one has "
                f"{now}; start again with the settings and the data of the run, or "
                "give another output folder."
            )


def _flat(settings):
    """Returns settings in which those of a part have names such as "part.name"."""
    found = {}
    for name, value in settings.items():
        if name in _SINCE and isinstance(value, dict):
            found |= {f"{name}.{each}": inner for each, inner in value.items()}
        else:
            found[name] = value
    return found


def _difference(before, now):
    """Returns what to show of two values that differ; of lists, what one alone has."""
    if isinstance(before, list) and isinstance(now, list):
        gone = [each for each in before if each not in now]
        come = [each for each in now if each not in before]
        return f"{gone or before[:3]}, ...", f"{come or now[:3]}, ..."
    return repr(before), repr(now)
