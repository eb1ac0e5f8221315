"""Shape of the batches of labelled images."""

import dataclasses

from widenet_keras.data.source import Source
from widenet_keras.models.preprocessing import Preprocessing, usual_preprocessing
from widenet_keras.utils.checks import check_integer


@dataclasses.dataclass(frozen=True)
class Layout:
    """Shape of the batches.

    Attributes:
        image_size: Side of the images, pixels.
        channels: 1 or 3.
        num_classes: Number of classes.
        batch_size: B, images per batch.
        preprocessing: `Preprocessing`: what is taken of an image, but by crops that
            are drawn; None for the usual one.
    """

    image_size: int
    channels: int
    num_classes: int
    batch_size: int
    preprocessing: Preprocessing | None = None

    def __post_init__(self):
        if self.preprocessing is None:
            usual = usual_preprocessing(self.image_size)
            object.__setattr__(self, "preprocessing", usual)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of an image."""
        return self.image_size, self.image_size, self.channels


def checked_layout(
    source: Source,
    image_size: int,
    channels: int,
    num_classes: int,
    batch_size: int,
    preprocessing: Preprocessing | None = None,
) -> Layout:
    """Returns the `Layout`, after checks that it fits the source."""
    owner = "batches"
    check_integer(owner, "image_size", image_size, 1)
    check_integer(owner, "num_classes", num_classes, 1)
    check_integer(owner, "batch_size", batch_size, 1)
    if channels not in (1, 3):
        raise ValueError(
            f"{owner}: channels={channels!r}; images are read with 1 or 3 channels."
        )
    if source.num_classes > num_classes:
        raise ValueError(
            f"{source.name} has {source.num_classes} classes and num_classes="
            f"{num_classes}; use num_classes={source.num_classes}."
        )
    source.require()
    return Layout(image_size, channels, num_classes, batch_size, preprocessing)
