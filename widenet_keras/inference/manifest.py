"""What a file says about itself: classes, preprocessing, origin."""

import json

from widenet_keras.models.class_names import checked_class_names
from widenet_keras.models.preprocessing import Preprocessing
from widenet_keras.version import __version__

KIND = "widenet_keras export"


def manifest_of(model, options, class_names=None):
    """Returns the manifest of an export, plain values for JSON.

    Args:
        model: A `WideNet`.
        options: The export's `Options`.
        class_names: Names of the classes; None for those of the model, or their
            numbers where it has none.

    Raises:
        ValueError: If there are more or fewer names than classes, or one is twice.
    """
    config = model.config
    if class_names is None:
        class_names = model.class_names or range(config.num_classes)
    class_names = checked_class_names("export", class_names, config.num_classes)
    return {
        "kind": KIND,
        "version": __version__,
        "model": model.name,
        "format": options.format,
        "quantize": options.quantize,
        "batch": options.batch,
        "input": options.input,
        "image_shape": list(config.image_shape),
        "preprocessing": model.preprocessing.to_dict(),
        "class_names": list(class_names),
        "trained_on": model.trained_on,
    }


def labels_content(class_names):
    """Returns class names as the bytes of a text, one per line."""
    text = "".join(f"{name}\n" for name in class_names)
    # Names of folders are bytes, which need not be UTF-8.
    return text.encode("utf-8", "surrogateescape")


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
        Preprocessing.from_dict(manifest["preprocessing"])
    except (ValueError, KeyError, TypeError) as error:
        raise damaged(path, f"its manifest cannot be read: {error}") from error
    return manifest


def damaged(path, reason):
    """Returns the error about a file that is not what an export wrote.

    Args:
        path: The file.
        reason: What is wrong with it.
    """
    reason = " ".join(str(reason).split())
    return ValueError(
        f"{path} is damaged, or not a file that widenet_keras.export wrote ({reason}); "
        "copy or export it again."
    )
