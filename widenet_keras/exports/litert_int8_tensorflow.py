"""LiteRT models in int8: products of weights, with ranges calibrated on images."""

import tensorflow as tf

from widenet_keras.exports.int8 import (
    calibration_batches,
    is_router,
    router_kernels,
)
from widenet_keras.inference.litert import (
    interpreter_of,
    operations_of,
    quiet_interpreters,
)

# What is computed in int8. Norms, softmax, routing and the product of query and key
# lose too much: in int8 throughout, a digits model falls from 0.99 to 0.32.
_PRODUCTS = ("FULLY_CONNECTED", "CONV_2D")


def calibrated_litert(converter, model, options, images):
    """Returns the bytes of a model whose products with weights are int8.

    Weights have a scale per output channel, and activations the ranges that they
    have on the images. Routers stay in float.

    Args:
        converter: `tf.lite.TFLiteConverter` that optimizes.
        model: The model that it converts.
        options: `Options`.
        images: (B, height, width, channels) float32.
    """
    converter.representative_dataset = lambda: (
        {"images": batch} for batch in calibration_batches(images, options)
    )
    with quiet_interpreters():
        debugger = tf.lite.experimental.QuantizationDebugger(
            converter=converter, debug_dataset=converter.representative_dataset
        )
        calibrated = debugger.calibrated_model
        operations = operations_of(calibrated)
        names = {operation["op_name"] for operation in operations}
        debugger.options = tf.lite.experimental.QuantizationDebugOptions(
            denylisted_ops=sorted(names - set(_PRODUCTS)),
            denylisted_nodes=_router_nodes(calibrated, operations, model),
        )
        return debugger.get_nondebug_quantized_model()


def _router_nodes(content, operations, model):
    """Returns the names of what the products with routers' kernels give."""
    kernels = router_kernels(model)
    interpreter = interpreter_of(content)
    tensors = {each["index"]: each for each in interpreter.get_tensor_details()}
    nodes = []
    for operation in operations:
        if operation["op_name"] != "FULLY_CONNECTED":
            continue
        weight = operation["inputs"][1]
        shape = tuple(tensors[weight]["shape"][::-1])
        if any(shape == kernel.shape for kernel in kernels) and is_router(
            interpreter.get_tensor(weight).T, kernels
        ):
            nodes.append(tensors[operation["outputs"][0]]["name"])
    return nodes
