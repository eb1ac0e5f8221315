"""The labelled images that a model is looked at with."""

import numpy as np

from widenet_keras.data.batches import evaluation_batches
from widenet_keras.data.broken_images import broken_image_message, no_image_message
from widenet_keras.data.classes import in_classes_of
from widenet_keras.data.source import at_most, evenly_spaced
from widenet_keras.data.sources import open_source
from widenet_keras.utils.plain_errors import plain_errors


def labelled_images(
    model, data, split, data_dir, count, on_error, of=None, *, own_classes=False
):
    """Returns some images of all classes and their labels as arrays, in any order.

    Of what is read record by record they are the first.

    Args:
        model: As for `labelled_batches`.
        data: As for `labelled_batches`.
        split: As for `labelled_batches`.
        data_dir: As for `labelled_batches`.
        count: Number of images; fewer if there are no more.
        on_error: As for `labelled_batches`.
        of: As for `labelled_batches`.
        own_classes: As for `labelled_batches`.

    Returns:
        (images (N, height, width, channels), labels (N,), class names in the order of
        the labels, line that describes the data).

    Raises:
        ValueError: As for `labelled_batches`, or if no image can be read.
    """
    where = (data, split, data_dir)
    how = (64, on_error, count, of)
    batches, names, description = labelled_batches(
        model, *where, *how, own_classes=own_classes
    )
    images, labels, found = [], [], 0
    with plain_errors(broken_image_message):
        for some, of_some in batches:
            images.append(np.asarray(some))
            labels.append(np.asarray(of_some))
            found += len(images[-1])
            if found >= count:
                break
    if not found:
        raise ValueError(no_image_message(description))
    images, labels = (np.concatenate(parts)[:count] for parts in (images, labels))
    labels = labels.argmax(axis=1) if labels.ndim == 2 else labels
    order = np.random.default_rng(0).permutation(len(labels))
    return images[order], labels[order], names, description


def labelled_batches(
    model,
    data,
    split,
    data_dir,
    batch_size,
    on_error,
    most=None,
    of=None,
    *,
    own_classes=False,
):
    """Returns batches of images and labels for a model, and what they are.

    Args:
        model: The `ImageClassifier`; its class names say which class is which, its
            preprocessing what is taken of an image.
        data: What `widenet_keras.data.open_source` takes.
        split: Name of a part of the data.
        data_dir: Where prepared data sets are, or None.
        batch_size: Images per batch.
        on_error: "raise" or "skip" for images that cannot be read.
        most: How many images to take, evenly spaced where they can be picked; None
            for all.
        of: How many images, evenly spaced, these are taken of, as where only so many
            are trained on; None for all.
        own_classes: Whether the labels are those of the data, whatever the model's
            classes are, as where nothing but the images counts.

    Returns:
        (batches, class names in the order of the labels, line that describes the
        data).

    Raises:
        ValueError: If the data do not exist or have a class that the model has not, or
            `of` is more than they have, or they are read record by record.
    """
    source = open_source(data, split, data_dir=data_dir)
    source = source if of is None else evenly_spaced(source, of)
    source = source if own_classes else in_classes_of(source, model)
    source = source if most is None else at_most(source, most)
    config = model.config
    batches = evaluation_batches(
        source,
        config.image_size,
        config.channels,
        source.num_classes,
        batch_size,
        on_error=on_error,
        preprocessing=model.preprocessing,
    )
    return batches, source.class_names, source.description
