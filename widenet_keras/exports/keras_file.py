"""Writing `.keras` files that know their classes."""

import json
import zipfile
from pathlib import Path

from widenet_keras.inference.checksums import LABELS, MANIFEST
from widenet_keras.inference.manifest import labels_text


def write_keras(model, path, options, manifest):
    """Writes a `.keras` file with manifest and labels in its zip.

    Args:
        model: The model; it is left as it is.
        path: File to write.
        options: `Options`.
        manifest: Dict of the file.

    Returns:
        The operators, an empty dict: Keras has no graph.

    Raises:
        ValueError: If the path does not end in `.keras`.
    """
    if Path(path).suffix != ".keras":
        raise ValueError(f"export: {Path(path).name} must end in .keras; rename it.")
    # A copy has no optimizer, whose state would be as large as the weights.
    copy = model if model.quantization else model.adapted()
    if options.quantize == "dynamic_int8":
        copy.quantize("int8")
    copy.save(path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(MANIFEST, json.dumps(manifest, indent=2))
        archive.writestr(LABELS, labels_text(manifest))
    return {}
