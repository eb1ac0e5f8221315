"""Writing SavedModel and LiteRT files, and reading them back, with TensorFlow.

Run as a program (`python -m widenet_keras.export.tensorflow_export FOLDER PATH
KIND`) it exports a model that another backend saved into FOLDER.
"""

import sys
import tempfile
import warnings
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from widenet_keras.utils.execution import execution


def write_and_compare(model, path, kind, images, logits):
    """Writes one export and returns its largest difference from `logits`.

    Args:
        model: The model, on the TensorFlow backend.
        path: Where to write.
        kind: "saved_model" or "litert".
        images: (B, height, width, channels) float32.
        logits: (B, classes), the model's own.
    """
    if kind == "saved_model":
        write_saved_model(model, path)
        found = run_saved_model(path, images)
    else:
        write_litert(model, path)
        found = run_litert(path, images)
    return float(np.abs(found - logits).max())


def write_saved_model(model, path):
    """Writes a SavedModel with one `serve` signature, each weight stored once."""
    archive = keras.export.ExportArchive()
    # `model.export` tracks the variables a second time, which doubles the file.
    archive.add_endpoint(
        name="serve",
        fn=lambda images: model(images, training=False),
        input_signature=[_signature(model)],
    )
    archive.write_out(str(path), verbose=False)


def write_litert(model, path):
    """Writes a LiteRT file of built-in operators with a dynamic batch."""
    # LiteRT has no dynamic split, and fuses only what stands in the open.
    plain = execution(engine="all_experts", unrolled=True)
    with tempfile.TemporaryDirectory() as folder, plain:
        write_saved_model(model, folder)
        converter = tf.lite.TFLiteConverter.from_saved_model(
            folder, signature_keys=["serve"]
        )
        Path(path).write_bytes(converter.convert())


def run_saved_model(path, images):
    """Returns the logits of a SavedModel as NumPy."""
    # A name keeps the variables alive, which the function alone does not.
    loaded = tf.saved_model.load(str(path))
    return loaded.serve(tf.constant(images)).numpy()


def run_litert(path, images):
    """Returns the logits of a LiteRT file as NumPy."""
    with warnings.catch_warnings():
        # TensorFlow announces that its interpreter moves to another package.
        warnings.simplefilter("ignore")
        interpreter = tf.lite.Interpreter(model_path=str(path))
    [entry] = interpreter.get_input_details()
    interpreter.resize_tensor_input(entry["index"], images.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(entry["index"], images)
    interpreter.invoke()
    [result] = interpreter.get_output_details()
    return interpreter.get_tensor(result["index"])


def _signature(model):
    return tf.TensorSpec((None, *model.config.image_shape), "float32", name="images")


def main(folder, path, kind):
    """Exports the model in `folder` and writes the difference beside it."""
    # Loading needs the class that wrote the file to be registered.
    from widenet_keras.models.loading import load_model
    from widenet_keras.training import image_classifier as image_classifier

    folder = Path(folder)
    model = load_model(folder / "model.keras", compile=False)
    samples = np.load(folder / "samples.npz")
    difference = write_and_compare(
        model, Path(path), kind, samples["images"], samples["logits"]
    )
    (folder / "difference.txt").write_text(repr(difference))


if __name__ == "__main__":
    main(*sys.argv[1:])
