"""What a study found: a file per run, so that runs side by side do not meet."""

import dataclasses

from widenet_keras.utils.json_files import read_json, write_json


@dataclasses.dataclass(frozen=True)
class Row:
    """One finished run.

    Attributes:
        variant: Name of the variant.
        seed: Its seed.
        changes: Fields of the configuration that make the variant.
        accuracy: On the test images, after the last epoch.
        train_accuracy: On the training images as they were augmented, mean over the
            last epoch.
        parameters: Trainable parameters.
        gflops: 1e9 operations of one image's forward pass.
        minutes: From start to end; None of a run that was stopped and went on.
    """

    variant: str
    seed: int
    changes: dict
    accuracy: float
    train_accuracy: float
    parameters: int
    gflops: float
    minutes: float | None


class Rows:
    """The rows of a study, each in a file of its own.

    Processes that train different runs of one study do not get in each other's way,
    and whoever writes the tables last has the rows of all.

    Args:
        folder: Folder of the study.
        kind: Dataclass of a row, with a variant and a seed.
    """

    def __init__(self, folder, kind=Row):
        self.folder = folder / "rows"
        self.kind = kind

    def path(self, variant, seed):
        """Returns the file of a run."""
        return self.folder / f"{variant}_seed_{seed}.json"

    def has(self, variant, seed):
        """Whether a run is finished."""
        return self.path(variant, seed).exists()

    def add(self, row):
        """Keeps the row of a finished run."""
        write_json(self.path(row.variant, row.seed), dataclasses.asdict(row))

    def of(self, variant, seed):
        """Returns the row of a finished run."""
        return self._row(self.path(variant, seed))

    def all(self, order):
        """Returns the rows of all finished runs.

        Args:
            order: Names of the variants, in the order of the rows; others are last.
        """
        rows = [self._row(path) for path in sorted(self.folder.glob("*.json"))]
        places = {name: place for place, name in enumerate(order)}
        return sorted(
            rows, key=lambda row: (places.get(row.variant, len(order)), row.seed)
        )

    def _row(self, path):
        """Returns the row in a file."""
        remedy = "remove it, and the run is trained again"
        row = read_json(path, remedy)
        try:
            return self.kind(**row)
        except TypeError as error:
            raise ValueError(f"{path} is damaged ({error}); {remedy}.") from None
