"""The folder of a training run: settings, checkpoints, tables and pictures."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from widenet_keras.distribution.single import ONE_DEVICE, Distribution
from widenet_keras.evaluation import Evaluation
from widenet_keras.files.checksums import LABELS
from widenet_keras.files.manifest import labels_content
from widenet_keras.files.run_tables import LOAD_TABLE
from widenet_keras.plot import plot_history, plot_routing
from widenet_keras.reports import write_model_card, write_report
from widenet_keras.runs.averages import AveragedEvaluation
from widenet_keras.runs.callbacks import HistoryTable, Rates, StopOnNaN
from widenet_keras.runs.checkpoint_files import Reached
from widenet_keras.runs.checkpoints import Checkpoints
from widenet_keras.runs.epoch_lines import EpochLines
from widenet_keras.runs.load_maps import LoadMaps, draw_load_table, read_load_table
from widenet_keras.runs.settings import EPOCHS, check_same_settings, named_as_now
from widenet_keras.training.image_classifier import ImageClassifier
from widenet_keras.training.trainable_variables import unscaled
from widenet_keras.utils.files import check_folder, replaced_when_done
from widenet_keras.utils.install import is_installed
from widenet_keras.utils.json_files import read_json, write_json
from widenet_keras.utils.leftovers import remove_leftovers
from widenet_keras.utils.locks import lock_folder

_RENAME = (
    "rename it and start again with the settings of the run, or give another output "
    "folder"
)


class Run:
    """What a run keeps in its folder, so that the same command goes on with it.

        settings.json           what the run was started with
        checkpoints/last.keras  the state after the last epoch
        checkpoints/previous.keras  the one before, if the last is damaged
        checkpoints/best.keras  the best model so far, for use
        history.csv             one row per epoch
        load/epoch_0001.png     which expert did how much, step by step
        load/load.csv           the same of all epochs as numbers
        tensorboard/            curves, where TensorFlow and TensorBoard are installed
        model.keras             the model at the end, for use
        labels.txt              the names of its classes
        curves.png              the table as curves
        routing.png             which expert each patch of an image went to
        load.png                how the load changed from epoch to epoch
        metrics.json            what `finish` was given
        report.html             all of it as one page to look at
        model_card.md           what is known of the model, to publish beside it

    load/, routing.png and load.png are those of models with experts.

    No other process can make a run of the folder while this one is used.

    Args:
        folder: The folder; made if it does not exist. Of several processes the
            first one writes it, and all must see it to go on with a run.
        settings: Dict of everything that changes the weights the run ends with. Its
            "epochs", if it has any, may be others when a run goes on.
        distribution: `Distribution` of the job.

    Raises:
        ValueError: If the folder cannot be written or is in use by another process,
            if it is of a run with other settings, or a table in it is damaged.
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        settings: dict[str, Any],
        distribution: Distribution = ONE_DEVICE,
    ):
        self.distribution = distribution
        self.folder = distribution.own_folder(folder)
        check_folder(self.folder)
        # Those of a job that write aside do not meet.
        self._lock = lock_folder(self.folder) if distribution.is_chief else None
        for kept in (self.folder, self.folder / "load"):
            remove_leftovers(kept)
        self.settings = json.loads(json.dumps(settings, default=str))
        path = Path(folder) / "settings.json"
        if path.exists():
            there = read_json(path, _RENAME)
            self.settings_before = named_as_now(there)
            check_same_settings(path.parent, self.settings_before, self.settings)
        else:
            self.settings_before = self.settings
            write_json(self.folder / path.name, self.settings)
        self.checkpoints = Checkpoints(
            Path(folder) / "checkpoints", distribution=distribution
        )
        self.table = HistoryTable(self.folder / "history.csv")
        read_load_table(self.folder / LOAD_TABLE)

    def restore(self, model: ImageClassifier, epochs: int, batches: int) -> Reached:
        """Brings a compiled model to where the run is, and says where that is.

        With more epochs than before, or fewer, the learning rate is from then on that
        of the schedule of the new length, at the batch where the run goes on.

        Args:
            model: A compiled `ImageClassifier`; the one at the start, or that of the
                run, see `Checkpoints.restore`.
            epochs: Epochs of `fit` that the run is to have in all.
            batches: Batches of each.

        Returns:
            `Reached`: what is done already, all zero in a fresh folder.

        Raises:
            ValueError: If more is done than is asked for, or not in such epochs, or
                `steps_per_execution` of `compile` does not divide an epoch.
        """
        if batches % model.steps_per_execution:
            raise ValueError(
                f"compile: steps_per_execution={model.steps_per_execution} does not "
                f"divide the {batches} batches of an epoch, and a run counts them; "
                "give a number that does."
            )
        done = self.checkpoints.restore(model)
        folder = self.checkpoints.folder.parent
        if done.batches != done.epochs * batches:
            raise ValueError(
                f"{folder} has {done.batches} batches in {done.epochs} epochs behind "
                f"it, and an epoch has {batches} batches now; start again with the "
                "data and the length of epochs of the run, or give another folder."
            )
        if done.epochs > epochs:
            raise ValueError(
                f"{folder} has {done.epochs} epochs of {batches} batches behind it and "
                f"{epochs} were asked for; ask for at least {done.epochs}, or give "
                "another folder."
            )
        say = self.distribution.say
        before, now = (s.get(EPOCHS) for s in (self.settings_before, self.settings))
        if before != now:
            say(
                f"{folder} was a run of {before} epochs and is one of {now} now: from "
                f"batch {done.batches} on the learning rate follows the schedule of "
                f"{now} epochs"
            )
            # They are of the other length; the model of its end stays until the next.
            (self.folder / "metrics.json").unlink(missing_ok=True)
            write_json(self.folder / "settings.json", self.settings)
            self.settings_before = self.settings
        if done.epochs:
            say(f"going on after epoch {done.epochs} of {epochs}")
        return done

    def callbacks(
        self, model: ImageClassifier, batch_size: int, images: np.ndarray | None = None
    ) -> list[keras.callbacks.Callback]:
        """Returns the callbacks of a run, in the order that they need.

        One of them prints; `fit` takes `verbose=0` beside it.

        Args:
            model: The compiled model.
            batch_size: Images per batch.
            images: NumPy array of images for the load maps, or None.
        """
        callbacks = [
            Rates(batch_size),
            StopOnNaN(self.checkpoints.folder / self.checkpoints.last.name),
            EpochLines(self.distribution.is_chief),
        ]
        if unscaled(model.optimizer).use_ema:
            callbacks.append(AveragedEvaluation())
        if _has_tensorboard():
            callbacks.append(
                keras.callbacks.TensorBoard(
                    str(self.folder / "tensorboard"), write_graph=False
                )
            )
        if images is not None and model.config.routed_steps:
            where = self.folder / "load"
            callbacks.append(LoadMaps(images, where, distribution=self.distribution))
        return [*callbacks, self.table, self.checkpoints]

    def finish(
        self,
        model: ImageClassifier,
        metrics: dict[str, Any],
        images: np.ndarray | None = None,
        class_names: Sequence[str] | None = None,
        labels: np.ndarray | None = None,
        evaluation: Evaluation | None = None,
    ) -> None:
        """Writes the model for use, the metrics, the pictures and the report.

        Args:
            model: The trained model.
            metrics: Dict of what the run is to be known by.
            images: NumPy array of images for pictures and the report, or None.
            class_names: Names of the classes, in order, for a model without any.
            labels: (B,) the class of each of the images, or None.
            evaluation: `Evaluation` of the model for the report and the card, or None.
        """
        if class_names is not None and model.class_names is None:
            model.class_names = class_names
        with self.distribution.logical_weights(model):
            if self.distribution.saves:
                with self.distribution.apart():
                    model.adapted().save(self.folder / "model.keras")
            names = model.class_names or range(model.config.num_classes)
            with replaced_when_done(self.folder / LABELS) as path:
                path.write_bytes(labels_content(names))
            plain = json.dumps(metrics, default=lambda each: np.asarray(each).tolist())
            write_json(self.folder / "metrics.json", json.loads(plain))
            if images is not None and model.config.routed_steps:
                with replaced_when_done(self.folder / "routing.png") as path:
                    where = model.routing(images)
                    plot_routing(where, images, path=path, labels=labels)
            self._report(model, images, labels, evaluation)
        draw_load_table(self.folder / LOAD_TABLE, self.folder / "load.png")
        if self.table.rows:
            with replaced_when_done(self.folder / "curves.png") as path:
                plot_history(self.table.history(), path)

    def _report(self, model, images, labels, evaluation):
        """Writes the page and the card, from what the folder says by now."""
        found = {"run": self.folder, "evaluation": evaluation}
        found |= {"model_file": self.folder / "model.keras"}
        write_model_card(model, self.folder / "model_card.md", **found)
        page = self.folder / "report.html"
        write_report(model, page, images=images, labels=labels, **found)


def _has_tensorboard():
    # Keras' callback writes through TensorFlow, whatever backend trains.
    return all(map(is_installed, ("tensorflow", "tensorboard")))
