"""Some images of a source at once, to look at them."""

import numpy as np

from widenet_keras.data.batches import evaluation_batches
from widenet_keras.data.broken_images import broken_image_message, no_image_message
from widenet_keras.data.source import Source, at_most
from widenet_keras.models.preprocessing import Preprocessing
from widenet_keras.utils.plain_errors import plain_errors


def sample_images(
    source: Source,
    image_size: int,
    channels: int,
    count: int = 64,
    on_error: str = "raise",
    preprocessing: Preprocessing | None = None,
) -> np.ndarray:
    """Returns some images of a source as evaluation sees them.

    Of class folders and arrays they are evenly spaced, so that all classes are among
    them; of what is read record by record they are the first.

    Args:
        source: What `open_source` returned.
        image_size: Side of the images, pixels.
        channels: 1 or 3.
        count: Number of images; fewer if there are no more.
        on_error: As for `evaluation_batches`.
        preprocessing: As for `evaluation_batches`.

    Returns:
        NumPy array (count, height, width, channels) float32 in [-1, 1].

    Raises:
        ValueError: If an image cannot be read; one line names it. If none can be and
            all are left out.
    """
    layout = image_size, channels, count, on_error, preprocessing
    return labelled_samples(source, *layout)[0]


def labelled_samples(
    source: Source,
    image_size: int,
    channels: int,
    count: int = 64,
    on_error: str = "raise",
    preprocessing: Preprocessing | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns some images of a source, as `sample_images`, and their labels.

    Args:
        source: What `open_source` returned.
        image_size: Side of the images, pixels.
        channels: 1 or 3.
        count: Number of images; fewer if there are no more.
        on_error: As for `evaluation_batches`.
        preprocessing: As for `evaluation_batches`.

    Returns:
        (images (count, height, width, channels) float32 in [-1, 1], labels (count,)
        whole numbers).

    Raises:
        ValueError: If an image cannot be read; one line names it. If none can be and
            all are left out.
    """
    source = at_most(source, count)
    layout = image_size, channels, source.num_classes, count
    batches = evaluation_batches(source, *layout, on_error, preprocessing)
    with plain_errors(broken_image_message):
        found = next(iter(batches), None)
    if found is None:
        raise ValueError(no_image_message(source.description))
    images, labels = map(np.asarray, found)
    return images, labels.argmax(axis=1) if labels.ndim == 2 else labels
