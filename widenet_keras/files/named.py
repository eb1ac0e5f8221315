"""Classifiers of `.keras` files, with the names of their classes."""

import os
import zipfile
from pathlib import Path

from widenet_keras.files.checksums import LABELS, MANIFEST
from widenet_keras.files.loading import load_classifier
from widenet_keras.files.manifest import read_manifest
from widenet_keras.models.class_names import if_named
from widenet_keras.models.widenet import WideNet
from widenet_keras.utils.memory import MAX_MEMORY


def named_classifier(path: str | os.PathLike, max_memory: int = MAX_MEMORY) -> WideNet:
    """Returns the classifier of a `.keras` file, not compiled, with its class names.

    Files of version 0.1.0 have no names of their own: they get those that
    `widenet_keras.export` put beside the weights, or those of a `labels.txt` beside
    the file.

    Args:
        path: A `.keras` file, written on any backend.
        max_memory: Bytes that it may take beyond what the file weighs.

    Raises:
        ValueError: If the file is damaged, not a classifier of this package or too
            large, or the `labels.txt` is of another number of classes.
        OSError: If the file cannot be read.
    """
    path = Path(path)
    model = load_classifier(path, max_memory=max_memory)
    if model.class_names is None:
        manifest = manifest_in(path)
        names = manifest["class_names"] if manifest else _names_beside(path, model)
        try:
            model.class_names = if_named(names)
        except ValueError as error:
            place = path if manifest else path.with_name(LABELS)
            raise ValueError(f"{place}: {error}") from error
    return model


def manifest_in(path):
    """Returns the manifest that an export put into the file, or None."""
    with zipfile.ZipFile(path) as archive:
        if MANIFEST in archive.namelist():
            return read_manifest(archive.read(MANIFEST), path)
    return None


def _names_beside(path, model):
    """Returns the names in a `labels.txt` beside the file, or numbers."""
    labels, classes = path.with_name(LABELS), model.config.num_classes
    if not classes or not labels.is_file():
        return list(map(str, range(classes)))
    names = labels.read_text("utf-8", "surrogateescape").splitlines()
    if len(names) != classes:
        raise ValueError(
            f"{labels} has {len(names)} lines and {path} has {classes} classes; "
            "give one name per line, in order."
        )
    return names
