"""What a file says about itself: classes, preprocessing, origin."""

import json
import math
from typing import NamedTuple

from widenet_keras.models.class_names import checked_class_names
from widenet_keras.models.preprocessing import Preprocessing
from widenet_keras.utils.memory import check_memory
from widenet_keras.utils.plain_errors import first_line
from widenet_keras.utils.printable import printable
from widenet_keras.version import __version__

KIND = "widenet_keras export"
INPUTS = ("float", "uint8", "jpeg")


class Interface(NamedTuple):
    """What a model takes and gives.

    Attributes:
        images: (B or None, height, width, channels).
        dtype: "float32" or "uint8", of the images.
        logits: (B or None, classes), or features of a model without classes.
    """

    images: tuple
    dtype: str
    logits: tuple


def manifest_of(model, options, class_names=None):
    """Returns the manifest of an export, plain values for JSON.

    Args:
        model: A `WideNet`.
        options: The export's `Options`.
        class_names: Names of the classes; None for those of the model, or their
            numbers where it has none.

    Raises:
        ValueError: If there are more or fewer names than classes, or one is there
            twice.
    """
    config = model.config
    if class_names is None:
        class_names = model.class_names or range(config.num_classes)
    class_names = checked_class_names("export", class_names, config.num_classes)
    # Of how many numbers its answers are is in the names, where there are any.
    without_classes = {} if class_names else {"features": config.outputs}
    return without_classes | {
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
    """Returns the manifest in a text, which says what every reader relies on.

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
        check_manifest(manifest)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise damaged(path, f"its manifest cannot be read: {error}") from error
    return manifest


def check_manifest(manifest):
    """Raises `ValueError` or `KeyError` unless a manifest says what can be.

    Args:
        manifest: Dict.
    """
    shape, names = manifest["image_shape"], manifest["class_names"]
    if not isinstance(shape, list | tuple) or len(shape) != 3:
        raise ValueError(f"image_shape={shape!r} must be [height, width, channels]")
    if not all(map(_counts, shape)) or shape[0] != shape[1]:
        raise ValueError(
            f"image_shape={shape!r} must be whole numbers from 1, height equal to width"
        )
    if not isinstance(names, list) or not all(isinstance(n, str) for n in names):
        raise ValueError("class_names must be a list of texts")
    if not names and not _counts(manifest.get("features")):
        raise ValueError("class_names is empty and there are no features")
    Preprocessing.from_dict(manifest["preprocessing"])
    if manifest["input"] not in INPUTS:
        raise ValueError(f"input={manifest['input']!r} must be one of {INPUTS}")
    batch = manifest["batch"]
    if batch != "dynamic" and not _counts(batch):
        raise ValueError(f'batch={batch!r} must be "dynamic" or a whole number from 1')


def outputs_of(manifest):
    """Returns the numbers that a file gives per image: of each class, or features.

    Args:
        manifest: Dict of the file.
    """
    return len(manifest["class_names"]) or manifest["features"]


def check_fits(path, manifest, interface, max_memory):
    """Raises `ValueError` unless a manifest is about the model beside it.

    Args:
        path: The file, for messages.
        manifest: Dict of the file.
        interface: `Interface` of the model.
        max_memory: Bytes that the images of one call may take beyond what the file
            weighs.
    """
    batch = None if manifest["batch"] == "dynamic" else manifest["batch"]
    dtype = "float32" if manifest["input"] == "float" else "uint8"
    told = Interface(
        (batch, *manifest["image_shape"]), dtype, (batch, outputs_of(manifest))
    )
    for name, is_so, says in zip(told._fields, interface, told, strict=True):
        if is_so != says:
            raise damaged(path, f"{name}: {is_so} of the model, {says} of the manifest")
    floats = 4 * math.prod(manifest["image_shape"]) * (batch or 1)
    check_memory(path, "the images of one call", floats, max_memory)


def _counts(value):
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def damaged(path, reason):
    """Returns the error about a file that is not what an export wrote.

    Args:
        path: The file.
        reason: What is wrong with it: a line, or what another library raised.
    """
    return ValueError(
        f"{path} is damaged, or not a file that widenet_keras.export wrote "
        f"({printable(first_line(reason))}); copy or export it again."
    )
