"""Which rows of every batch a process of a job with several makes."""

import dataclasses

from widenet_keras.utils.checks import check_integer


@dataclasses.dataclass(frozen=True)
class Part:
    """One of several equal, neighbouring parts of every batch.

    Attributes:
        index: Which part, from 0.
        count: Number of parts.

    Raises:
        ValueError: If there is no such part.
    """

    index: int = 0
    count: int = 1

    def __post_init__(self):
        check_integer("Part", "count", self.count, 1)
        check_integer("Part", "index", self.index, 0)
        if self.index >= self.count:
            raise ValueError(
                f"Part: index={self.index} must be below count={self.count}."
            )

    def rows(self, batch_size):
        """Returns the places in the batch, a `range`.

        Raises:
            ValueError: If the batch has no equal parts.
        """
        if batch_size % self.count:
            raise ValueError(
                f"batch_size={batch_size} does not split into {self.count} equal "
                f"parts; use a multiple of {self.count}."
            )
        size = batch_size // self.count
        return range(self.index * size, (self.index + 1) * size)


@dataclasses.dataclass(frozen=True)
class ProcessRows:
    """Training data of which every process has other rows of the same batches.

    Other data that `fit` takes in a job of several processes are whole batches,
    of which each process takes its part itself.

    Attributes:
        dataset: Batches of this process's rows.
    """

    dataset: object
