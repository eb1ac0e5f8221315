"""LiteRT (TFLite) files of built-in operators."""

import tempfile
import warnings
from pathlib import Path

import tensorflow as tf

from widenet_keras.exports.tensorflow_graphs import Network, counted, scaled
from widenet_keras.inference.checksums import sealed_with_zip
from widenet_keras.inference.litert import interpreter_class


def write_litert(model, path, options, manifest):
    """Writes a LiteRT file with manifest and labels behind the model.

    Args:
        model: The model, on the TensorFlow backend, in float32.
        path: File to write.
        options: `Options`.
        manifest: Dict that goes into the file.

    Returns:
        Dict of operator names to how often the graph has them.
    """
    content = _converted(model, options)
    Path(path).write_bytes(sealed_with_zip(content, manifest))
    return _operators(content)


def _converted(model, options):
    """Returns the bytes of the model as LiteRT takes it."""
    shape = (options.batch_size, *model.config.image_shape)
    # Computes what is chosen and nothing else, of built-in operators.
    network = Network(model, engine="listed", unrolled=True)
    dtype = tf.uint8 if options.input == "uint8" else tf.float32

    @tf.function(input_signature=[tf.TensorSpec(shape, dtype, "images")])
    def serve(images):
        images = scaled(images) if options.input == "uint8" else images
        return {"logits": network.forward(images)}

    network.serve = serve
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(network, folder, signatures={"serve": serve})
        converter = tf.lite.TFLiteConverter.from_saved_model(
            folder, signature_keys=["serve"]
        )
        if options.quantize != "none":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if options.quantize == "float16":
            converter.target_spec.supported_types = [tf.float16]
        return converter.convert()


def _operators(content):
    """Returns the operators of a LiteRT model."""
    with warnings.catch_warnings():
        # TensorFlow announces that its interpreter moves to another package.
        warnings.simplefilter("ignore")
        interpreter = interpreter_class()(model_content=content)
    # The delegate that the interpreter adds is no operator of the file.
    names = (op["op_name"] for op in interpreter._get_ops_details())
    return counted(name for name in names if name != "DELEGATE")
