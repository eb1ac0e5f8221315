"""What a file says about itself: classes, preprocessing, origin."""

import json

from widenet_keras.data.geometry import EVALUATION_CROP, SMALLEST_CROPPED
from widenet_keras.utils.plain_errors import first_line
from widenet_keras.version import __version__

KIND = "widenet_keras export"


def manifest_of(model, options, class_names=None):
    """Returns the manifest of an export, plain values for JSON.

    Args:
        model: A `WideNet`.
        options: The export's `Options`.
        class_names: Names of the classes; None for their numbers.

    Raises:
        ValueError: If there are more or fewer names than classes.
    """
    config = model.config
    if class_names is None:
        class_names = range(config.num_classes)
    class_names = [str(name) for name in class_names]
    if len(class_names) != config.num_classes:
        raise ValueError(
            f"export: {len(class_names)} class_names for a model of "
            f"{config.num_classes} classes; give one name per class, in order."
        )
    cropped = config.image_size >= SMALLEST_CROPPED
    return {
        "kind": KIND,
        "version": __version__,
        "model": model.name,
        "format": options.format,
        "quantize": options.quantize,
        "batch": options.batch,
        "input": options.input,
        "image_shape": list(config.image_shape),
        "preprocessing": {
            "crop": EVALUATION_CROP if cropped else 1.0,
            "resize": "bilinear",
            "scale": "pixels / 127.5 - 1",
        },
        "class_names": class_names,
    }


def labels_text(manifest):
    """Returns the class names, one per line."""
    return "".join(f"{' '.join(name.split())}\n" for name in manifest["class_names"])


def read_manifest(text, path):
    """Returns the manifest in a text.

    Args:
        text: JSON.
        path: The file it was in, for messages.

    Raises:
        ValueError: If it is none.
    """
    try:
        manifest = json.loads(text)
        if manifest["kind"] != KIND:
            raise ValueError("another kind of file")
        # What every reader relies on.
        [int(size) for size in manifest["image_shape"]]
        [str(name) for name in manifest["class_names"]]
        manifest["input"], manifest["batch"]
    except (ValueError, KeyError, TypeError) as error:
        raise damaged(path, f"its manifest cannot be read: {error}") from error
    return manifest


def damaged(path, reason):
    """Returns the error about a file that is not what an export wrote.

    Args:
        path: The file.
        reason: What is wrong with it: a line, or what another library raised.
    """
    return ValueError(
        f"{path} is damaged, or not a file that widenet_keras.export wrote "
        f"({first_line(reason)}); copy or export it again."
    )
