"""The result of an evaluation: numbers to read, to store and to draw."""

import dataclasses
import os
from typing import Any

from widenet_keras.evaluation.picture import draw
from widenet_keras.evaluation.report import markdown
from widenet_keras.evaluation.routing import RoutingStatistics


@dataclasses.dataclass(frozen=True)
class Throughput:
    """How fast the evaluation was.

    Attributes:
        backend: Keras backend.
        batch_size: Images of a full batch.
        images_per_second: Forward passes alone, of full batches, without the first
            of them, for which the model is compiled; None if there was only one.
        seconds: The whole evaluation, reading of the data included.
    """

    backend: str
    batch_size: int
    images_per_second: float | None
    seconds: float


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """How a classifier does on a data set.

    Attributes:
        count: Images.
        top1: Fraction of them whose true class has the largest logit.
        top5: Fraction of them whose true class is among the five largest; None
            for fewer than 6 classes, where it says nothing.
        nll: Mean of -log(probability of the true class), nats.
        calibration_error: Expected calibration error over `bins`.
        bins: The 15 `CalibrationBin`s.
        classes: A `ClassResult` per class.
        confusion: How often each class (a row) was taken for each (a column); None
            for more than 40 classes.
        routing: `RoutingStatistics`; None for a model without experts.
        throughput: `Throughput`.
    """

    count: int
    top1: float
    top5: float | None
    nll: float
    calibration_error: float
    bins: tuple
    classes: tuple
    confusion: tuple | None
    routing: RoutingStatistics | None
    throughput: Throughput

    def to_dict(self) -> dict[str, Any]:
        """Returns everything as a dict that JSON can hold."""
        return dataclasses.asdict(self)

    def to_markdown(self) -> str:
        """Returns everything as tables in Markdown."""
        return markdown(self)

    def plot(self, path: str | os.PathLike | None = None) -> Any:
        """Draws reliability, accuracy per class, mistakes and the experts' load.

        Args:
            path: Where to write a PNG; None writes none.

        Returns:
            The matplotlib figure.

        Raises:
            ImportError: If matplotlib is not installed.
        """
        return draw(self, path)
