"""The forms in which people have images and labels, and the one that models take."""

import keras
import numpy as np

# As `tensorflow_datasets` names them.
IMAGE, LABEL = "image", "label"
NO_WEIGHTS = (
    "The sample weights have values that are no numbers; use 0 to leave an image out."
)


def images_labels_weights(batch) -> tuple:
    """Returns the images, labels and sample weights of a batch; None where absent.

    Args:
        batch: Images, a tuple (images[, labels[, weights]]), or a dict with "image" and
            "label", of which the rest is left out. Also of specs instead of tensors.

    Raises:
        ValueError: If a dict has other keys.
    """
    images, labels, weights = keras.utils.unpack_x_y_sample_weight(batch)
    if isinstance(images, dict):
        if labels is None:
            labels = images.get(LABEL)
        images = _entry(images, IMAGE)
    if isinstance(labels, dict):
        labels = _entry(labels, LABEL)
    return images, labels, weights


def _entry(batch, name):
    if name not in batch:
        raise ValueError(
            f"The batches are dicts with {', '.join(map(repr, batch)) or 'nothing'} "
            f"and need {IMAGE!r} and {LABEL!r}; map them to (images, labels) pairs."
        )
    return batch[name]


def as_arrays(name: str, values):
    """Returns a list or tuple as one NumPy array, and anything else as it is.

    Args:
        name: What they are, for the message.
        values: Images or labels, one by one.

    Raises:
        ValueError: If they do not fit into one array.
    """
    if not isinstance(values, list | tuple):
        return values
    try:
        array = np.asarray([_as_numpy(each) for each in values])
    except ValueError:
        array = np.asarray(None)
    if array.dtype == object:
        raise ValueError(
            f"The {name} are a list of things of different shapes or kinds; give one "
            "array, such as numpy.stack makes of equal ones."
        )
    if array.dtype == "float64":
        array = array.astype("float32")
    # Keras' own lists have one entry for each input of a model.
    return array[0] if array.ndim == 5 and len(array) == 1 else array


def _as_numpy(value):
    return keras.ops.convert_to_numpy(value) if keras.ops.is_tensor(value) else value


def no_labels():
    """Returns the error for images that come alone."""
    return ValueError(
        "There are images and no labels; give y, one integer label per image."
    )
