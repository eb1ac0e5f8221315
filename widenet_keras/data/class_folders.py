"""Images in folders named for their classes."""

import dataclasses
import os

import numpy as np

from widenet_keras.data.progress import Progress
from widenet_keras.data.sources import SPLITS, Source, served
from widenet_keras.utils.checks import suggest

SUFFIXES = (b".jpg", b".jpeg", b".png")


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class FolderSource(Source):
    """Images in class folders.

    Attributes:
        root: Path of the folder that the class folders are in.
        files: (count,) bytes: paths below the root, sorted.
        labels: (count,) int64.
    """

    root: str
    files: np.ndarray
    labels: np.ndarray


def open_folders(name, path, split):
    """Returns the images below a folder.

    Args:
        name: What the user called the folder.
        path: `Path` of it: class folders, or a folder of these for each split.
        split: "train", "validation" or "test".

    Raises:
        ValueError: If there are no images, or the classes of two splits differ.
    """
    parts = {part for names in SPLITS.values() for part in names}
    # A folder of images that is called "train" is a class of trains.
    parts = {part for part in parts if _class_names(path / part)}
    if not parts:
        classes, root = _class_names(path), path
        note = "; not divided, so training and validation read the same images"
    else:
        found = [part for part in SPLITS[split] if part in parts]
        if not found:
            raise ValueError(
                f"{name} has {', '.join(sorted(parts))} and no part for "
                f"{split!r}; add a folder {SPLITS[split][0]}/."
            )
        root = path / found[0]
        classes, note = _class_names(root), served(split, found[0])
        if "train" in parts:
            classes = _checked_classes(classes, path, found[0])
    files, labels = _images(root, classes)
    if not files:
        raise ValueError(
            f"{root} has no .jpg, .jpeg or .png images in class folders; give the "
            "folder whose subfolders are the classes."
        )
    return FolderSource(
        name=name,
        kind="folders",
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
        names = [e.name for e in entries if e.is_dir() and not e.name.startswith(".")]
    return tuple(sorted(names))


def _checked_classes(classes, path, part):
    """Returns the classes of the training part, which all parts share."""
    known = _class_names(path / "train")
    for name in classes:
        if name not in known:
            raise ValueError(
                f"{path / part / name} is a class that {path / 'train'} does not "
                f"have; give all parts the same classes.{suggest(name, known)}"
            )
    return known


def _images(root, classes):
    """Returns the paths below `root` (bytes) and the labels of all images."""
    files, labels = [], []
    progress = Progress(f"reading class folders of {root}", len(classes))
    for label, name in enumerate(classes):
        folder = os.fsencode(name)
        path = os.path.join(os.fsencode(root), folder)
        if os.path.isdir(path):
            found = sorted(
                file for file in os.listdir(path) if file.lower().endswith(SUFFIXES)
            )
            files += [folder + b"/" + file for file in found]
            labels += [label] * len(found)
        progress.add()
    return files, labels
