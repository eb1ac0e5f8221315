"""How far a training is: a short line per epoch."""

import sys
import time

import keras

_SHOWN = ("loss", "accuracy", "val_loss", "val_accuracy")
# Seconds between two looks at the loss within an epoch; a look waits for the device.
_PAUSE = 1.0


class EpochLines(keras.callbacks.Callback):
    """Prints a line before what takes long at first, and one after every epoch.

        compiling for the first batch ...
        the first batch took 12.4 s
        epoch  1/56  loss 2.1934  accuracy 0.2606  4.1 s
        epoch 10/56  loss 0.7431  accuracy 0.9518  val_accuracy 0.9711  0.5 s

    On a terminal the line of an epoch is there from its beginning. `fit` takes
    `verbose=0` beside it.

    Args:
        shown: Whether this process prints.
    """

    def __init__(self, shown: bool = True):
        super().__init__()
        self.shown = shown
        self.compiles = False

    def on_train_begin(self, logs=None):
        """Says that the first batch waits for a compiler, where it does."""
        self.compiles = _compiles(self.model)
        self.start = time.perf_counter()
        if self.compiles:
            self._print("compiling for the first batch ...")

    def on_epoch_begin(self, epoch, logs=None):
        """Starts the clock."""
        self.epoch, self.looked = epoch, time.perf_counter()
        self.epoch_start = self.looked

    def on_train_batch_end(self, batch, logs=None):
        """Says how long the first batch took, on a terminal how far the epoch is."""
        now = time.perf_counter()
        if self.compiles:
            self.compiles = False
            self._print(f"the first batch took {now - self.start:.1f} s")
        elif self.shown and sys.stdout.isatty() and now - self.looked >= _PAUSE:
            batches = self.params.get("steps")
            done = f"batch {batch + 1}" + (f"/{batches}" if batches else "")
            print(f"\r{self._line(logs)}  {done} ", end="", flush=True)
            self.looked = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        """Prints the line of the epoch."""
        seconds = time.perf_counter() - self.epoch_start
        # What was shown within the epoch is overwritten to the end of the line.
        over = "\r\x1b[K" if self.shown and sys.stdout.isatty() else ""
        self._print(f"{over}{self._line(logs)}  {seconds:.1f} s")

    def _line(self, logs):
        epochs = self.params["epochs"]
        values = {name: logs[name] for name in _SHOWN if name in (logs or {})}
        if "val_accuracy" in values:
            values.pop("val_loss")
        parts = [f"{name} {float(value):.4f}" for name, value in values.items()]
        number = f"{self.epoch + 1:>{len(str(epochs))}}"
        return "  ".join([f"epoch {number}/{epochs}", *parts])

    def _print(self, text):
        if self.shown:
            print(text, flush=True)


def _compiles(model):
    """Whether the first batch waits for a compiler."""
    if keras.backend.backend() == "torch":
        return bool(model.jit_compile)
    return not model.run_eagerly
