"""One device; and what every other distribution is asked for."""

import contextlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import keras
import numpy as np

from widenet_keras.data.process_rows import Part, ProcessRows
from widenet_keras.distribution.lost_worker import plain_loss_of_worker
from widenet_keras.utils.printable import printable_lines


class Distribution:
    """Where a model trains. This one: on one device.

    ```python
    distribution = widenet_keras.distribution.distribute("auto")
    with distribution.scope():
        model = ...
        model.compile(...)
        model.fit(distribution.training(batches, first), ...)
    ```

    Attributes:
        description: One line for people.
        replicas: Devices that share a batch.
        rank: Which process this is, from 0.
        processes: Number of processes.
        part: `Part` of every batch that this process makes.
    """

    description = "one device"
    replicas = 1
    rank = 0
    processes = 1
    part = Part()
    _aside = None

    @property
    def is_chief(self) -> bool:
        """Whether this process is the one that writes and prints."""
        return self.rank == 0

    @property
    def saves(self) -> bool:
        """Whether this process takes part in saving a model."""
        return self.is_chief

    def say(self, text: str) -> None:
        """Prints a text, once for all processes."""
        if self.is_chief:
            print(printable_lines(text), flush=True)

    @contextlib.contextmanager
    def scope(self) -> Iterator[None]:
        """Context in which models are made, compiled and trained.

        Raises:
            ValueError: In one line, if another worker of the job is lost.
        """
        with plain_loss_of_worker(self.processes), self._scope():
            yield

    def _scope(self):
        return contextlib.nullcontext()

    def own_folder(self, folder: str | os.PathLike) -> Path:
        """Returns where this process writes what belongs into a folder.

        All processes do the same work, since reading a weight may take them all;
        what others than the first write is thrown away when they end.

        Args:
            folder: Path of the folder.
        """
        if self.is_chief:
            return Path(folder)
        if self._aside is None:
            self._aside = tempfile.TemporaryDirectory(prefix="widenet-")
        return Path(self._aside.name) / Path(os.path.realpath(folder)).name

    def check_batch_size(self, batch_size: int) -> None:
        """Raises `ValueError` unless the devices can share a batch evenly."""
        if batch_size % self.replicas:
            raise ValueError(
                f"batch_size={batch_size} does not split evenly over {self.replicas} "
                f"devices; use a multiple of {self.replicas}."
            )

    def training(self, batches: Any, first: int = 0) -> Any:
        """Returns what `fit` takes: this process's rows of every batch.

        Args:
            batches: `TrainingBatches`; its batch size is that of all devices.
            first: Number of the first batch.
        """
        self.check_batch_size(batches.layout.batch_size)
        rows = batches.from_batch(first, self.part)
        return rows if self.processes == 1 else ProcessRows(rows)

    @contextlib.contextmanager
    def logical_weights(self, model: keras.Model) -> Iterator[None]:
        """Context in which this process can read every weight whole.

        All processes enter it together.

        Args:
            model: The model, compiled or not.
        """
        yield

    def apart(self) -> AbstractContextManager:
        """Context in which this process alone makes or saves something."""
        return contextlib.nullcontext()

    def everywhere(self, numbers: Sequence[int]) -> np.ndarray:
        """Returns the numbers that every process has, (processes, n).

        Args:
            numbers: List of n whole numbers.
        """
        return np.array([numbers])

    def check_agreed(self, place: str | os.PathLike, numbers: Sequence[int]) -> None:
        """Raises `ValueError` unless all processes found the same.

        Args:
            place: Path of what they looked at.
            numbers: List of whole numbers that say what was found.
        """
        if self.processes == 1:
            return
        found = self.everywhere(numbers)
        if (found != found[0]).any():
            raise ValueError(
                f"The {self.processes} processes of the job found other states of the "
                f"run in {place} ({found.tolist()}); all hosts must see the same "
                "folder: mount it on each."
            )


ONE_DEVICE = Distribution()


class Replicated(Distribution):
    """Several devices.

    Args:
        description: One line for people.
        replicas: Devices that share a batch.
        rank: Which process this is, from 0.
        processes: Number of processes.
    """

    def __init__(self, description, replicas, rank=0, processes=1):
        backend = keras.backend.backend()
        self.description = f"{description} ({backend})"
        self.replicas = replicas
        self.rank = rank
        self.processes = processes


def processes_told(variable: str) -> int:
    """Returns how many processes a variable of the environment says a job has.

    Args:
        variable: Its name.

    Raises:
        ValueError: If it says no number.
    """
    text = os.environ.get(variable, "").strip() or "1"
    if not text.isdecimal():
        raise ValueError(
            f"distribute: {variable}={text!r} is no whole number; mend it, or unset it."
        )
    return int(text)
