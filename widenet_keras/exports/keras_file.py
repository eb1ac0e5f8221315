"""Writing `.keras` files that know their classes."""

import io
import json
import zipfile

import h5py

from widenet_keras.files.checksums import LABELS, MANIFEST
from widenet_keras.files.manifest import labels_content
from widenet_keras.models.class_names import if_named
from widenet_keras.utils.rounding import in_float16

_WEIGHTS = "model.weights.h5"


def write_keras(model, path, options, manifest):
    """Writes a `.keras` file with manifest and labels in its zip.

    Args:
        model: The model; it is left as it is.
        path: File to write.
        options: `Options`.
        manifest: Dict of the file.

    Returns:
        The operators, an empty dict: Keras has no graph.
    """
    # A copy has no optimizer, whose state would be as large as the weights.
    copy = model if model.quantization else model.adapted()
    if options.quantize == "dynamic_int8":
        copy.quantize("int8")
    before, copy.class_names = copy.class_names, if_named(manifest["class_names"])
    try:
        copy.save(path)
    finally:
        copy.class_names = before
    if options.quantize == "float16":
        _store_in_float16(path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(MANIFEST, json.dumps(manifest, indent=2))
        archive.writestr(LABELS, labels_content(manifest["class_names"]))
    return {}


def _store_in_float16(path):
    """Rewrites a `.keras` file with its float32 weights in float16.

    Keras reads them into the variables of the model, which stay float32.
    """
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    parts[_WEIGHTS] = _with_float16(parts[_WEIGHTS])
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)


def _with_float16(content):
    """Returns the bytes of an HDF5 file whose float32 arrays are float16."""
    result = io.BytesIO()
    with (
        h5py.File(io.BytesIO(content), "r") as source,
        h5py.File(result, "w") as target,
    ):

        def copy(name, entry):
            if isinstance(entry, h5py.Group):
                made = target.require_group(name)
            else:
                value = entry[()]
                value = in_float16(value) if value.dtype == "float32" else value
                made = target.create_dataset(name, data=value)
            made.attrs.update(entry.attrs)

        source.visititems(copy)
        target.attrs.update(source.attrs)
    return result.getvalue()
