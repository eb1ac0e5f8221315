"""The labelled images that a model is looked at with."""

import numpy as np

from widenet_keras.data.arrays import ArraySource
from widenet_keras.data.batches import evaluation_batches
from widenet_keras.data.classes import in_classes_of
from widenet_keras.data.digits import CLASSES, load_digits
from widenet_keras.data.sources import open_source
from widenet_keras.utils.checks import check_choice

_DIGITS = {"train": 0, "test": 1, "validation": 1}


def labelled_batches(model, data, split, data_dir, batch_size, on_error):
    """Returns batches of images and labels for a model, and what they are.

    Args:
        model: The `ImageClassifier`; its class names say which class is which, its
            preprocessing what is taken of an image.
        data: "digits" for the images that ship with scikit-learn, or what
            `widenet_keras.data.open_source` takes.
        split: Name of a part of the data.
        data_dir: Where prepared data sets are, or None.
        batch_size: Images per batch.
        on_error: "raise" or "skip" for images that cannot be read.

    Returns:
        (batches, class names in the order of the logits, line that describes the
        data).

    Raises:
        ValueError: If the data do not exist or have a class that the model has not.
    """
    if data == "digits":
        return _digits(model, split, batch_size)
    source = in_classes_of(open_source(data, split, data_dir=data_dir), model)
    config = model.config
    batches = evaluation_batches(
        source,
        config.image_size,
        config.channels,
        config.num_classes,
        batch_size,
        on_error=on_error,
        preprocessing=model.preprocessing,
    )
    return batches, source.class_names, source.description


def _digits(model, split, batch_size):
    check_choice("digits", "split", split, tuple(_DIGITS))
    images, labels = load_digits()[_DIGITS[split]]
    source = in_classes_of(
        ArraySource(
            name="digits",
            kind="arrays",
            count=len(images),
            class_names=CLASSES,
            description=f"digits, {split}: {len(images)} images, 10 classes",
            images=images,
            labels=np.asarray(labels),
        ),
        model,
    )
    batches = [
        (images[first : first + batch_size], source.labels[first : first + batch_size])
        for first in range(0, len(images), batch_size)
    ]
    return batches, source.class_names, source.description
