"""What a source of labelled images can do; the kinds of sources are in sources/."""

import dataclasses
from typing import Any, ClassVar, Self

import numpy as np

from widenet_keras.data.broken_images import BrokenImages
from widenet_keras.data.numpy_reading import ByIndex
from widenet_keras.utils.checks import check_integer


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Source:
    """Labelled images that can be read as batches.

    A new kind of source is a subclass with a method `image`, and a row in
    `widenet_keras.data.SOURCES`. What it has besides are fields of a dataclass. That
    is all for images that can be had by their number, from 0 to `count` - 1, and both
    NumPy and `tf.data` read them then. What is faster in some other way replaces
    `reader` or `tensorflow_reader`; what can be read in one order only is a
    `RecordSource`.

    Attributes:
        name: What the user called the data.
        count: Number of images.
        class_names: A name for every class, in the order of what models are given.
        description: One line: what was found where.
        named: Whether the classes have names, and not just numbers.
        labels: (count,) int64: the class of every image, from 0; None where only the
            images say it.
        places: Where each class of `labels` stands in `class_names`; None where both
            have the same order.
        encoded: Whether `image` gives files, and not pixels. Of the class.
        in_memory: Whether all images are there, as `images` (count, height, width, C)
            uint8, so that none can turn out broken. Of the class.

    Raises:
        ValueError: If there is not one label for each image, or one is of no class.
    """

    name: str
    count: int
    class_names: tuple[str, ...]
    description: str
    named: bool = True
    labels: np.ndarray | None = None
    places: tuple[int, ...] | None = None
    encoded: ClassVar[bool] = False
    in_memory: ClassVar[bool] = False

    def __post_init__(self):
        if self.labels is None:
            return
        labels = np.asarray(self.labels)
        if len(labels) != self.count:
            raise ValueError(
                f"{self.name} has {self.count} images and {len(labels)} labels; give "
                "one label per image."
            )
        classes = len(self.class_names if self.places is None else self.places)
        is_wrong = labels.dtype.kind not in "iu" or labels.ndim != 1
        if is_wrong or (self.count and not 0 <= labels.min() <= labels.max() < classes):
            raise ValueError(
                f"{self.name}: labels must be whole numbers from 0 to {classes - 1}, "
                f"one for each of its {classes} classes; they are {labels.dtype} of "
                f"shape {labels.shape}"
                + ("." if is_wrong else f", {labels.min()} to {labels.max()}.")
            )
        object.__setattr__(self, "labels", labels.astype("int64"))

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def pickable(self) -> bool:
        """Whether any image can be had without reading those before it."""
        return self.labels is not None

    @property
    def targets(self) -> np.ndarray:
        """(count,) int64: the place in `class_names` of the class of every image."""
        if self.labels is None:
            raise ValueError(
                f"{self.name} has no labels, and is not read record by record; give "
                "one for each image, or make it a RecordSource."
            )
        if self.places is None:
            return self.labels
        return np.array(self.places, "int64")[self.labels]

    def image(self, row: int) -> np.ndarray | bytes:
        """Returns an image; may be called by several threads at once.

        Args:
            row: Number of the image.

        Returns:
            uint8 (height, width, C), C being 1 or 3; if `encoded`, the bytes of a file
            in a format that this package reads.
        """
        raise NotImplementedError(f"{type(self).__name__} has no method image(row).")

    def image_name(self, row: int) -> str:
        """Returns what to call an image that cannot be read."""
        return f"number {row} of {self.name}"

    def pick(self, rows: np.ndarray) -> "Source":
        """Returns a source of some of the images.

        Args:
            rows: (n,) integers: their numbers, in the order they are to have.
        """
        fields = {field.name: getattr(self, field.name) for field in _FIELDS}
        fields |= {"count": len(rows), "labels": self.labels[rows]}
        return _Picked(**fields, of=self, rows=rows)

    def in_classes(self, class_names: tuple[str, ...], places: tuple[int, ...]) -> Self:
        """Returns the source with labels that are places in another list of classes.

        Args:
            class_names: The other list.
            places: Where each of this source's `class_names` stands in it.
        """
        if self.places is not None:
            places = tuple(places[place] for place in self.places)
        return dataclasses.replace(self, class_names=class_names, places=places)

    def require(self) -> None:
        """Raises `ImportError` if what reads the images here is not installed."""

    def reader(self, layout: Any, broken: BrokenImages) -> Any:
        """Returns what reads the images with NumPy, such as `ByIndex`.

        Args:
            layout: `Layout` of the batches.
            broken: `BrokenImages`.
        """
        return ByIndex(self, layout, broken)

    def tensorflow_reader(self) -> Any:
        """Returns what reads the images in `tf.data`, such as `IndexReader`."""
        from widenet_keras.data.pipeline.readers import IndexReader

        return IndexReader(self)


_FIELDS = dataclasses.fields(Source)


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class _Picked(Source):
    """Some of the images of another source.

    Attributes:
        of: The other source.
        rows: (count,) integers: the numbers that the images have there.
    """

    of: Source
    rows: np.ndarray

    @property
    def encoded(self):
        """As of the other source."""
        return self.of.encoded

    def image(self, row):
        """Returns an image; see `Source`."""
        return self.of.image(int(self.rows[row]))

    def image_name(self, row):
        """Returns what the other source calls an image."""
        return self.of.image_name(int(self.rows[row]))

    def require(self):
        """As of the other source."""
        self.of.require()


def evenly_spaced(source: Source, count: int) -> Source:
    """Returns a source of some of the images, at equal distances in their order.

    Class folders are in the order of their classes, so that each class keeps its
    share.

    Args:
        source: What `open_source` returned for class folders or an .npz file.
        count: Number of images.

    Returns:
        A `Source`.

    Raises:
        ValueError: If there are fewer images, or they are read record by record.
    """
    check_integer("evenly_spaced", "count", count, 1)
    if not source.pickable:
        raise ValueError(
            f"{source.name} is read record by record, so no {count} images of it can "
            "be picked; give class folders or an .npz file."
        )
    if source.count < count:
        raise ValueError(
            f"{source.name} has {source.count} images and {count} were asked for; ask "
            f"for at most {source.count}."
        )
    rows = np.linspace(0, source.count - 1, count).astype(int)
    description = f"{count} of {source.description}"
    return dataclasses.replace(source.pick(rows), description=description)


def at_most(source: Source, count: int) -> Source:
    """Returns a source of so many images, evenly spaced; all where none can be picked.

    Args:
        source: What `open_source` returned.
        count: Number of images; all of them if there are no more.
    """
    if source.pickable and source.count > count:
        return evenly_spaced(source, count)
    return source
