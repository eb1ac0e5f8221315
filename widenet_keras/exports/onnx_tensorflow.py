"""ONNX files, by way of a TensorFlow graph."""

import json
from pathlib import Path

import numpy as np
import tensorflow as tf

from widenet_keras.exports import onnx_weights
from widenet_keras.exports.graphs_tensorflow import (
    Network,
    counted,
    scaled,
)
from widenet_keras.exports.int8 import router_kernels
from widenet_keras.files.checksums import sealed_onnx
from widenet_keras.inference.onnx import KEY
from widenet_keras.utils.quiet import quiet

OPSET = 18


def write_onnx(model, path, options, manifest, images):
    """Writes an ONNX file of opset 18 with the manifest as metadata.

    Args:
        model: The model, on the TensorFlow backend, in float32.
        path: File to write.
        options: `Options`.
        manifest: Dict that goes into the file.
        images: (B, height, width, channels) float32 to calibrate on.

    Returns:
        Dict of operator names to how often the graph has them.
    """
    proto = _converted(model, options)
    onnx_weights.stored_once(proto)
    kernels = router_kernels(model)
    if options.quantize in ("float16", "dynamic_int8"):
        onnx_weights.stored_smaller(proto, options.quantize, kernels)
    elif options.quantize == "int8":
        from widenet_keras.exports.onnx_int8 import calibrated_onnx

        proto = calibrated_onnx(proto, options, images, kernels)
    onnx_weights.named_shortly(proto)
    content = onnx_weights.with_metadata(proto, {KEY: json.dumps(manifest)})
    Path(path).write_bytes(sealed_onnx(content))
    return counted(node.op_type for node in proto.graph.node)


def _know_erfc():
    """Tells tf2onnx 1.17 of Erfc, which the exact GELU of TensorFlow is made of."""
    from tf2onnx.handler import tf_op

    @tf_op("Erfc")
    class Erfc:
        @classmethod
        def version_9(cls, context, node, **kwargs):
            dtype = context.get_dtype(node.output[0])
            shapes, [result] = [context.get_shape(node.output[0])], node.output
            one = context.make_const(f"{node.name}_one", np.array(1, "float32"))
            value = node.input[0]
            context.remove_node(node.name)
            erf = context.make_node("Erf", [value], shapes=shapes, dtypes=[dtype])
            context.make_node(
                "Sub",
                [one.output[0], erf.output[0]],
                outputs=[result],
                shapes=shapes,
                dtypes=[dtype],
            )


def _converted(model, options):
    """Returns the model as an `onnx.ModelProto`."""
    # tf2onnx needs names of TensorFlow that importing it warns about.
    with quiet():
        import tf2onnx

        _know_erfc()

        shape = (options.batch_size, *model.config.image_shape)
        # In ONNX too only what is chosen is computed.
        network = Network(model, engine="listed", unrolled=True)
        pixels = options.input == "uint8"
        spec = tf.TensorSpec(shape, tf.uint8 if pixels else tf.float32, "images")

        @tf.function(input_signature=[spec])
        def serve(images):
            answers = network.forward(scaled(images) if pixels else images)
            return {model.config.output_name: answers}

        proto, _ = tf2onnx.convert.from_function(serve, [spec], opset=OPSET)
    return proto
