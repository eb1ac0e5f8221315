"""What a run reports while it trains, and when it must stop."""

import math
import time
from pathlib import Path

import keras

from widenet_keras.files.run_tables import history_of
from widenet_keras.runs.finite import what_is_not_finite
from widenet_keras.utils.tables import read_numbers, write_rows


class Rates(keras.callbacks.Callback):
    """Adds `learning_rate` and `images_per_second` to the logs of every epoch.

    Stands first, so that the others see them. The learning rate is the one after
    the epoch's last batch; the images per second leave validation out.

    Args:
        batch_size: Images per batch.
    """

    def __init__(self, batch_size):
        super().__init__()
        self.batch_size = batch_size

    def on_epoch_begin(self, epoch, logs=None):
        """Starts the clock."""
        self.start = self.end = time.perf_counter()
        self.batches = 0

    def on_train_batch_end(self, batch, logs=None):
        """Counts the batch."""
        self.batches += self.model.steps_per_execution
        self.end = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        """Adds the two values."""
        if logs is None or not self.batches:
            return
        rate = self.model.optimizer.learning_rate
        logs["learning_rate"] = float(keras.ops.convert_to_numpy(rate))
        seconds = max(self.end - self.start, 1e-9)
        logs["images_per_second"] = self.batches * self.batch_size / seconds


class StopOnNaN(keras.callbacks.Callback):
    """Ends a run whose loss or weights are no numbers, before a good state is replaced.

    Args:
        checkpoint: Path of the last good state, for the message.
        every: Batches between two looks; a look waits for the device.

    Raises:
        FloatingPointError: In `fit`, in one line that says what can be done.
    """

    def __init__(self, checkpoint=None, every=20):
        super().__init__()
        self.checkpoint = checkpoint
        self.every = every

    def on_epoch_begin(self, epoch, logs=None):
        """Notes the epoch."""
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        """Looks at the loss now and then."""
        if (batch + 1) % self.every:
            return
        # The loss is a running mean: one NaN stays until the epoch ends.
        loss = float((logs or {}).get("loss", 0.0))
        if not math.isfinite(loss):
            self._stop(f"the loss is {loss}", f"batch {batch + 1}")

    def on_epoch_end(self, epoch, logs=None):
        """Looks at loss and weights before the epoch is saved."""
        found = what_is_not_finite(self.model, logs or {})
        if found:
            self._stop(found, "its end")

    def _stop(self, found, place):
        kept = Path(self.checkpoint) if self.checkpoint else None
        kept = f"the last good state is {kept}" if kept and kept.exists() else ""
        raise FloatingPointError(
            f"{found[0].upper()}{found[1:]} in epoch {self.epoch + 1}, at {place}; "
            f"{kept or 'nothing was saved yet'}; lower the learning rate, clip the "
            "gradients, or warm up for longer, in another folder."
        )


class HistoryTable(keras.callbacks.Callback):
    """Writes the logs of every epoch as one row of a CSV file.

    A run that goes on keeps the rows of the epochs before, and replaces those of
    epochs that it repeats.

    Args:
        path: The CSV file.

    Raises:
        ValueError: If the file is there and damaged.
    """

    def __init__(self, path):
        super().__init__()
        self.path = Path(path)
        self.rows = read_numbers(self.path, whole=("epoch",))

    def on_epoch_end(self, epoch, logs=None):
        """Writes the table anew, with the row of this epoch."""
        row = {"epoch": epoch + 1, **(logs or {})}
        self.rows = [old for old in self.rows if int(old["epoch"]) <= epoch] + [row]
        write_rows(self.path, self.rows)

    def history(self):
        """Returns the columns, as `history_of` does."""
        return history_of(self.rows)
