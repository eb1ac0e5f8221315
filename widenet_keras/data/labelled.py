"""The labelled images that a model is looked at with."""

from widenet_keras.data.batches import evaluation_batches
from widenet_keras.data.digits import CLASSES, load_digits
from widenet_keras.data.sources import open_source
from widenet_keras.utils.checks import check_choice

_DIGITS = {"train": 0, "test": 1, "validation": 1}


def labelled_batches(config, data, split, data_dir, batch_size, on_error):
    """Returns batches of images and labels for a model, and what they are.

    Args:
        config: `WideNetConfig` of the model.
        data: "digits" for the images that ship with scikit-learn, or what
            `widenet_keras.data.open_source` takes.
        split: Name of a part of the data.
        data_dir: Where prepared data sets are, or None.
        batch_size: Images per batch.
        on_error: "raise" or "skip" for images that cannot be read.

    Returns:
        (batches, class names, line that describes the data).

    Raises:
        ValueError: If the data do not exist or have other classes than the model.
    """
    if data == "digits":
        return _digits(config, split, batch_size)
    source = open_source(data, split, data_dir=data_dir)
    _check_classes(data, source.num_classes, config)
    batches = evaluation_batches(
        source,
        config.image_size,
        config.channels,
        config.num_classes,
        batch_size,
        on_error=on_error,
    )
    return batches, source.class_names, source.description


def _digits(config, split, batch_size):
    check_choice("digits", "split", split, tuple(_DIGITS))
    images, labels = load_digits()[_DIGITS[split]]
    _check_classes("digits", len(CLASSES), config)
    batches = [
        (images[first : first + batch_size], labels[first : first + batch_size])
        for first in range(0, len(images), batch_size)
    ]
    return batches, CLASSES, f"digits, {split}: {len(images)} images, 10 classes"


def _check_classes(data, classes, config):
    if classes != config.num_classes:
        raise ValueError(
            f"{data} has {classes} classes and the model has {config.num_classes}; "
            "give the data that it was trained for."
        )
