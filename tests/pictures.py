"""Folders of made images, and the same as a data set of TFDS."""

import contextlib
import os

import keras
import numpy as np
import pytest


def noisy_folders(root, **counts):
    """Writes class folders of noisy images in 3 classes; counts are by part."""
    random = np.random.default_rng(0)
    for part, count in counts.items():
        for index in range(count):
            path = root / part / f"class{index % 3}" / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            image = random.integers(0, 256, (20, 18, 3))
            keras.utils.save_img(path, image, scale=False)
    return root


def stored_by_tfds(folders, data_dir, name):
    """Prepares class folders as a data set of TFDS with two splits or more."""
    tfds = pytest.importorskip("tensorflow_datasets")
    builder, kept = tfds.ImageFolder(str(folders)), ("image", "label")
    parts = {
        part: builder.as_dataset(part).map(lambda row: {k: row[k] for k in kept})
        for part in builder.info.splits
    }
    names = builder.info.features["label"].names
    features = {
        "image": tfds.features.Image(shape=(None, None, 3), encoding_format="png"),
        "label": tfds.features.ClassLabel(names=names),
    }
    features = tfds.features.FeaturesDict(features)
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
        tfds.dataset_builders.store_as_tfds_dataset(
            name, "1.0.0", features, parts, data_dir=str(data_dir)
        )
