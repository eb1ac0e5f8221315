"""Writing an export with TensorFlow, in this process or in one of its own.

Run as a program (`python -m widenet_keras.exports.export_tensorflow FOLDER`) it
exports a model that another backend saved into FOLDER, as `request.json` there says.
"""

import json
import sys
from pathlib import Path

import numpy as np

from widenet_keras.exports.options import Options
from widenet_keras.utils.plain_errors import first_line


def write(model, path, options, manifest, images):
    """Writes one export.

    Args:
        model: The model, on the TensorFlow backend, in float32.
        path: Where to write.
        options: `Options`; any format but "keras".
        manifest: Dict that goes into the file.
        images: (B, height, width, channels) float32 to calibrate on.

    Returns:
        Dict of operator names to how often the graph has them.
    """
    if options.format == "saved_model":
        from widenet_keras.exports.saved_model_tensorflow import write_saved_model

        return write_saved_model(model, path, options, manifest)
    if options.format == "litert":
        from widenet_keras.exports.litert_tensorflow import write_litert

        return write_litert(model, path, options, manifest, images)
    from widenet_keras.exports.onnx_tensorflow import write_onnx

    return write_onnx(model, path, options, manifest, images)


def main(folder):
    """Exports the model in `folder` and writes its operators beside it."""
    # Loading needs the class that wrote the file to be registered.
    from widenet_keras.files.loading import load_model
    from widenet_keras.training import image_classifier as image_classifier

    folder = Path(folder)
    model = load_model(folder / "model.keras", compile=False)
    request = json.loads((folder / "request.json").read_text())
    manifest, path = request.pop("manifest"), Path(request.pop("path"))
    images = np.load(folder / "images.npy")
    try:
        operators = write(model, path, Options(**request), manifest, images)
    except Exception as error:
        told = {"type": type(error).__name__, "message": first_line(error)}
        (folder / "error.json").write_text(json.dumps(told))
        raise
    (folder / "operators.json").write_text(json.dumps(operators))


if __name__ == "__main__":
    main(*sys.argv[1:])
