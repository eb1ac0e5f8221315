"""The kinds of sources, one file and one row for each."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from widenet_keras.data.source import Source
from widenet_keras.data.sources import arrays, class_folders, digits, tfds, tfrecords
from widenet_keras.data.splits import SPLITS
from widenet_keras.utils.checks import check_choice, suggest

# What to give for a kind of source, and the function that opens it: of what was given
# as data, the split and the folder of data sets, to the `Source`, or to None where the
# data are of another kind. The first one that opens them does.
SOURCES: dict[str, Callable[..., Source | None]] = {
    "digits": digits.opened,
    "tfds:NAME": tfds.opened,
    "an .npz file": arrays.opened,
    "a folder of TFRecord shards": tfrecords.opened,
    "a folder of class folders": class_folders.opened,
}


def open_source(
    data: Any, split: str, data_dir: str | os.PathLike | None = None
) -> Source:
    """Finds labelled images and says what they are; reads none of files yet.

    Args:
        data: A folder of class folders, either data/<split>/<class>/*.jpg (train
            beside validation, val or test, in capitals or not) or the class folders
            themselves; a folder of TFRecord shards in the usual ImageNet schema; a
            NumPy .npz file with x_train, y_train, x_test and y_test; "digits" for the
            images that come with scikit-learn, "./digits" being a folder; or
            "tfds:NAME" for a prepared data set of TensorFlow Datasets, or a builder of
            theirs. Rows that are added to `SOURCES` open others.
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
    for opened in SOURCES.values():
        source = opened(data, split, data_dir)
        if source is not None:
            return source
    there = Path(str(data)).expanduser().exists()
    wrong = "is a file of another kind" if there else "does not exist"
    *others, last = reversed(SOURCES)
    near = "" if there else suggest(data, (word for word in SOURCES if " " not in word))
    raise ValueError(f"{data} {wrong}; give {', '.join(others)}, or {last}.{near}")
