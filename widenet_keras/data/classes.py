"""Data whose classes are those of a model, by name."""

import dataclasses

import keras

from widenet_keras.data.augmentation import Augmentation
from widenet_keras.data.source import Source
from widenet_keras.models.class_names import positions
from widenet_keras.models.needs_classes import check_has_classes


def in_classes_of(source: Source, model: keras.Model) -> Source:
    """Returns a source whose labels are the numbers that a model gives its classes.

    Names say which class is which, so that neither the order of folders nor classes
    that are left out move a label. Data without names have the model's numbers. A
    model without names has numbers for names; where these are not those of the data,
    as many classes as it has are taken in their order, and the description says so.

    Args:
        source: What `open_source` returned.
        model: A `WideNet` or `ImageClassifier`.

    Raises:
        ValueError: If the data have a class that the model does not know, or it has
            none at all.
    """
    check_has_classes(source.name, model)
    classes, known = model.config.num_classes, model.class_names
    numbers = tuple(str(number) for number in range(classes))
    if not source.named:
        if source.num_classes > classes:
            raise ValueError(_other_number(source, classes))
        return dataclasses.replace(source, class_names=known or numbers)
    if known is None and not set(source.class_names) <= set(numbers):
        if source.num_classes != classes:
            raise ValueError(_other_number(source, classes))
        said = f"{source.description}; the model has no class names, so in their order"
        return dataclasses.replace(source, description=said)
    known = known or numbers
    return source.in_classes(known, positions(source.name, source.class_names, known))


def trained_for(
    model: keras.Model,
    data: Source,
    test: Source,
    augmentation: Augmentation | None = None,
) -> tuple[Source, Source]:
    """Tells a model what it is to be trained on; returns the data in its classes.

    What it is told (its classes, how images are taken in evaluation, what it is trained
    on) goes into its files.

    Args:
        model: The `ImageClassifier` to train.
        data: What it is trained on.
        test: What it is evaluated on.
        augmentation: What is done to the images that it is trained on; None where the
            model keeps what it takes of an image, and training takes the same.

    Raises:
        ValueError: If the test data have a class that the training data have not.
    """
    check_has_classes(data.name, model)
    if augmentation is not None:
        model.preprocessing = augmentation.preprocessing(model.config.image_size)
    if model.class_names is None and data.named:
        model.class_names = data.class_names
    before = f"; before that {model.trained_on}" if model.trained_on else ""
    model.trained_on = f"{data.description}{before}"
    return in_classes_of(data, model), in_classes_of(test, model)


def facts_of(data: Source, test: Source) -> dict:
    """Returns what a run notes of its data in its settings, to know them again.

    Args:
        data: What it trains on.
        test: What it evaluates on.
    """
    return {"train_data": _facts(data), "validation_data": _facts(test)}


def _facts(source):
    classes = list(source.class_names) if source.named else source.num_classes
    return {"classes": classes, "images": source.count}


def _other_number(source, classes):
    return (
        f"{source.name} has {source.num_classes} classes and the model has {classes}; "
        "give the data that it was trained for."
    )
