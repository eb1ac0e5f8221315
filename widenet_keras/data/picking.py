"""Some of the images of a source, as a source of its own."""

import dataclasses

import numpy as np

from widenet_keras.data.sources import Source
from widenet_keras.utils.checks import check_integer

# The field that holds the images, of the kinds of sources that have all at hand.
_FIELDS = {"folders": "files", "arrays": "images"}


def is_pickable(source: Source) -> bool:
    """Whether any images of a source can be had without reading those before them."""
    return source.kind in _FIELDS


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
    if not is_pickable(source):
        raise ValueError(
            f"{source.name} is read record by record, so no {count} images of it can "
            "be picked; give class folders or an .npz file."
        )
    if source.count < count:
        raise ValueError(
            f"{source.name} has {source.count} images and {count} were asked for; ask "
            f"for at most {source.count}."
        )
    places = np.linspace(0, source.count - 1, count).astype(int)
    field = _FIELDS[source.kind]
    picked = {name: getattr(source, name)[places] for name in (field, "labels")}
    return dataclasses.replace(
        source,
        count=count,
        description=f"{count} of {source.description}",
        **picked,
    )
