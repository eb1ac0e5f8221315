"""Where labelled images come from: one function that opens all kinds of data."""

import dataclasses
import os
from pathlib import Path
from typing import Any

from widenet_keras.utils.checks import check_choice

# Names that a part of the data goes by, in order of preference.
SPLITS = {
    "train": ("train",),
    "validation": ("validation", "val", "test"),
    "test": ("test",),
}
KINDS = (
    "a folder of class folders, a folder of TFRecord shards, an .npz file, or tfds:NAME"
)


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Source:
    """Labelled images that can be read as batches.

    Attributes:
        name: What the user called the data.
        kind: "folders", "tfrecords", "arrays" or "tfds".
        count: Number of images.
        class_names: A name for every class, in the order of the labels.
        description: One line: what was found where.
        named: Whether the classes have names, and not just numbers.
        places: Where each class of the data stands in `class_names`; None where it
            is in its own order.
    """

    name: str
    kind: str
    count: int
    class_names: tuple[str, ...]
    description: str
    named: bool = True
    places: tuple[int, ...] | None = None

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)


def open_source(
    data: Any, split: str, data_dir: str | os.PathLike | None = None
) -> Source:
    """Finds labelled images and says what they are; reads none of them yet.

    Args:
        data: A folder of class folders, either data/<split>/<class>/*.jpg (train
            beside validation, val or test, in capitals or not) or the class folders
            themselves; a folder of TFRecord shards in the usual ImageNet schema; a
            NumPy .npz file with x_train, y_train, x_test and y_test; or "tfds:NAME"
            for a prepared data set of TensorFlow Datasets, or a builder of theirs.
        split: "train", "validation" or "test". Where there is no validation part
            the test part serves; the description says so.
        data_dir: Where TensorFlow Datasets keeps its data; None for its default.

    Returns:
        A `Source`.

    Raises:
        ValueError: If there are no such data, or something is wrong with them.
        ImportError: If a library that reads them is not installed.
    """
    check_choice("open_source", "split", split, tuple(SPLITS))
    if hasattr(data, "as_dataset"):
        from widenet_keras.data.tfds_builders import source_of_builder

        return source_of_builder(f"tfds:{data.name}", data, split)
    name = str(data)
    if name.startswith("tfds:"):
        from widenet_keras.data.tfds_builders import open_builder

        return open_builder(name, split, data_dir)
    if "://" in name:
        from widenet_keras.data.tfrecords import open_shards

        return open_shards(name, name, split)
    path = Path(name).expanduser()
    if not path.exists():
        raise ValueError(f"{name} does not exist; give {KINDS}.")
    if path.suffix == ".npz":
        from widenet_keras.data.arrays import open_arrays

        return open_arrays(name, path, split)
    if not path.is_dir():
        raise ValueError(f"{name} is a file of another kind; give {KINDS}.")
    from widenet_keras.data.tfrecords import has_shards, open_shards

    parts = part_folders(path)
    for folder in (path, *(parts[part] for part in SPLITS[split] if part in parts)):
        if has_shards(folder):
            return open_shards(name, str(folder), split)
    from widenet_keras.data.class_folders import open_folders

    return open_folders(name, path, split)


def part_folders(path: Path) -> dict[str, Path]:
    """Returns the folders inside a folder that are named for parts of the data.

    Args:
        path: The folder.

    Returns:
        Dict from the name of a part, such as "train", to the folder, such as `Train/`.

    Raises:
        ValueError: If two are named for the same part.
    """
    known = {name for names in SPLITS.values() for name in names}
    found = {}
    names = os.listdir(path) if path.is_dir() else []
    for name in sorted(name for name in names if name.lower() in known):
        if not (path / name).is_dir():
            continue
        twin = found.setdefault(name.lower(), path / name)
        if twin.name != name:
            raise ValueError(
                f"{path} has {twin.name} and {name}, and only one can be the part "
                f"{name.lower()!r}; rename or join them."
            )
    return found


def served(split: str, part: str) -> str:
    """Returns what to say where another part of the data serves as a split."""
    return (
        ""
        if part == split or (split, part) == ("validation", "val")
        else (f" (serves as {split})")
    )
