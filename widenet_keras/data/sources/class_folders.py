"""Images in folders named for their classes."""

import dataclasses
import os
from pathlib import Path
from typing import ClassVar

import numpy as np

from widenet_keras.data.image_files import (
    SUFFIXES,
    is_hidden,
    is_image,
    say_left_out,
    say_once,
)
from widenet_keras.data.source import Source
from widenet_keras.data.splits import SPLITS, part_folders, served
from widenet_keras.utils.checks import suggest
from widenet_keras.utils.progress import Progress


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class FolderSource(Source):
    """Images in class folders.

    Attributes:
        root: Path of the folder that the class folders are in.
        files: (count,) bytes: paths below the root, sorted.
    """

    root: str
    files: np.ndarray
    encoded: ClassVar[bool] = True

    def path(self, row):
        """Returns the path of an image, str."""
        return os.path.join(self.root, self.image_name(row))

    def image(self, row):
        """Returns the bytes of a file."""
        return Path(self.path(row)).read_bytes()

    def image_name(self, row):
        """Returns the path of a file below the root."""
        return os.fsdecode(self.files[row])

    def pick(self, rows):
        """Returns a source of some of the files; see `Source`."""
        picked = {name: getattr(self, name)[rows] for name in ("files", "labels")}
        return dataclasses.replace(self, count=len(rows), **picked)

    def tensorflow_reader(self):
        """Returns what has TensorFlow read the files."""
        from widenet_keras.data.pipeline.readers import FileReader

        return FileReader(self)


def opened(data, split: str, data_dir) -> FolderSource | None:
    """Returns the images below a folder, or None if it is none; see `SOURCES`."""
    path = Path(str(data)).expanduser()
    return open_folders(str(data), path, split) if path.is_dir() else None


def open_folders(name: str, path: Path, split: str) -> FolderSource:
    """Returns the images below a folder; says on stderr which files are left out.

    Args:
        name: What the user called the folder.
        path: `Path` of it: class folders, or a folder of these for each split.
        split: "train", "validation" or "test".

    Raises:
        ValueError: If a class has no images, there is one class to train on, or the
            classes of two splits differ.
    """
    # A folder of images that is called "train" is a class of trains.
    parts = {p: each for p, each in part_folders(path).items() if _class_names(each)}
    if not parts:
        classes, root = _class_names(path), path
        note = "; not divided, so training and validation read the same images"
    else:
        found = [part for part in SPLITS[split] if part in parts]
        if not found:
            there = ", ".join(each.name for each in parts.values())
            raise ValueError(
                f"{name} has {there} and no part for {split!r}; add "
                f"a folder {SPLITS[split][0]}/."
            )
        root = parts[found[0]]
        classes, note = _class_names(root), served(split, found[0])
        if "train" in parts:
            classes = _checked_classes(classes, root, parts["train"])
    files, labels = _images(root, classes)
    if len(classes) == 1 and (split == "train" or "train" in parts):
        raise ValueError(
            f"{parts.get('train', root)} has one class folder, "
            f"{classes[0]}, and one class is nothing to tell apart; give the folder "
            "whose subfolders are the classes."
        )
    return FolderSource(
        name=name,
        count=len(files),
        class_names=tuple(classes),
        description=(
            f"{len(files)} images in {len(classes)} class folders of {root}{note}"
        ),
        root=str(root),
        files=np.array(files, dtype=object),
        labels=np.array(labels, dtype="int64"),
    )


def _class_names(path):
    """Returns the names of the folders in a folder, sorted; () if it is none."""
    if not path.is_dir():
        return ()
    with os.scandir(path) as entries:
        names = [e.name for e in entries if not is_hidden(e.name) and e.is_dir()]
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError:
            shown = os.fsencode(path / name).decode(errors="backslashreplace")
            raise ValueError(
                f"The class folder {shown} has a name that is not UTF-8; rename it."
            ) from None
    return tuple(sorted(names))


def _checked_classes(classes, part, training):
    """Returns the classes of the training part, which all parts share."""
    known = _class_names(training)
    for name in classes:
        if name not in known:
            raise ValueError(
                f"{part / name} is a class that {training} does not have; give all "
                f"parts the same classes.{suggest(name, known)}"
            )
    return known


def _images(root, classes):
    """Returns the paths below `root` (bytes) and the labels of all images."""
    files, labels, others, empty = [], [], [], []
    progress = Progress(f"reading class folders of {root}", len(classes))
    for label, name in enumerate(classes):
        if (root / name).is_dir():
            found, left_out, inner = _listed(root / name)
            files += [os.fsencode(f"{name}/{file}") for file in found]
            labels += [label] * len(found)
            others += left_out
            if not found:
                empty.append(name)
            for folder in inner if found else ():
                deeper = len(_listed(root / name / folder)[0])
                if deeper:
                    place = root / name / folder
                    say_once(f"left out {deeper} images one folder deeper, in {place}")
        progress.add()
    say_left_out(root, others)
    if empty or not files:
        raise ValueError(_without_images(root, empty, some=bool(files)))
    return files, labels


def _listed(folder):
    """Returns the names of a folder's images, of its other files and its folders."""
    found, others, folders = [], [], []
    with os.scandir(folder) as entries:
        for entry in entries:
            if is_hidden(entry.name):
                continue
            if entry.is_dir():
                folders.append(entry.name)
            else:
                (found if is_image(entry.name) else others).append(entry.name)
    return sorted(found, key=os.fsencode), others, sorted(folders)


def _without_images(root, empty, some):
    """Returns what is wrong where class folders have no images.

    Args:
        root: `Path` of the folder that the class folders are in.
        empty: Names of the class folders without images.
        some: Whether other class folders have images.
    """
    for name in empty:
        for inner in _listed(root / name)[2]:
            if _listed(root / name / inner)[0]:
                place = root / name
                advice = f"move them up into {place}" if some else f"give {place}"
                return (
                    f"{root / name} has no images; images lie one folder deeper, in "
                    f"{Path(name, inner)}; {advice}."
                )
    kinds = ", ".join(SUFFIXES)
    if some:
        return (
            f"{root} has class folders without images ({kinds}): {', '.join(empty)}; "
            "add images, or remove what is no class."
        )
    return (
        f"{root} has no images ({kinds}) in class folders; give the folder whose "
        "subfolders are the classes."
    )
