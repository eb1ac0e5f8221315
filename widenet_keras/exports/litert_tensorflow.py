"""LiteRT (TFLite) files of built-in operators."""

import tempfile
from pathlib import Path

import tensorflow as tf
from tensorflow.lite.tools import flatbuffer_utils

from widenet_keras.exports.graphs_tensorflow import Network, counted, scaled
from widenet_keras.exports.litert_int8_tensorflow import calibrated_litert
from widenet_keras.files.checksums import sealed_with_zip
from widenet_keras.inference.litert import operations_of


def write_litert(model, path, options, manifest, images):
    """Writes a LiteRT file with manifest and labels behind the model.

    Args:
        model: The model, on the TensorFlow backend, in float32.
        path: File to write.
        options: `Options`.
        manifest: Dict that goes into the file.
        images: (B, height, width, channels) float32 to calibrate on.

    Returns:
        Dict of operator names to how often the graph has them.
    """
    content = converted(model, options, images)
    Path(path).write_bytes(sealed_with_zip(content, manifest))
    return counted(operation["op_name"] for operation in operations_of(content))


def converted(model, options, images, engine="listed"):
    """Returns the bytes of a LiteRT model.

    Args:
        model: As for `write_litert`.
        options: As for `write_litert`.
        images: As for `write_litert`.
        engine: Dispatch engine. "listed" computes what is chosen and nothing else.
    """
    shape = (options.batch_size, *model.config.image_shape)
    network = Network(model, engine=engine, unrolled=True)
    dtype = tf.uint8 if options.input == "uint8" else tf.float32

    @tf.function(input_signature=[tf.TensorSpec(shape, dtype, "images")])
    def serve(images):
        images = scaled(images) if options.input == "uint8" else images
        return {model.config.output_name: network.forward(images)}

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
        if options.quantize == "int8":
            return _without_names(calibrated_litert(converter, model, options, images))
        return _without_names(converter.convert())


def _without_names(content):
    """Returns a LiteRT model without the names of what is inside.

    They are half of a small model's graph. Inputs and outputs keep theirs.
    """
    model = flatbuffer_utils.read_model_from_bytearray(content)
    for graph in model.subgraphs:
        kept = {*graph.inputs, *graph.outputs}
        for index, tensor in enumerate(graph.tensors):
            if index not in kept:
                tensor.name = None
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))
