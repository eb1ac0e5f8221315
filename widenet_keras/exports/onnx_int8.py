"""ONNX models in int8, by onnxruntime's quantisation; routers stay in float."""

import tempfile
from pathlib import Path

import onnx

from widenet_keras.exports import onnx_weights
from widenet_keras.exports.int8 import calibration_batches
from widenet_keras.utils.quiet import quiet


def calibrated_onnx(model, options, images, kernels):
    """Returns a model whose products are int8.

    Args:
        model: `onnx.ModelProto` in float32.
        options: `Options`.
        images: (B, height, width, channels) float32; the ranges of activations are
            those that they have.
        kernels: NumPy arrays of the routers' kernels.
    """
    from onnxruntime import quantization

    kept = onnx_weights.router_nodes(model, kernels)
    with tempfile.TemporaryDirectory() as folder, quiet():
        source, result = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
        onnx.save(model, source)
        quantization.quantize_static(
            source,
            result,
            _Images(model.graph.input[0].name, images, options),
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=["MatMul", "Gemm", "Conv"],
            per_channel=True,
            nodes_to_exclude=kept,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            # Seven bits: sums of products of eight overflow on processors without
            # VNNI (onnxruntime's documentation of quantisation).
            reduce_range=True,
            extra_options={"MatMulConstBOnly": True},
        )
        return onnx.load(result)


class _Images:
    """Images as onnxruntime's calibration reads them."""

    def __init__(self, name, images, options):
        batches = calibration_batches(images, options)
        self._batches = ({name: batch} for batch in batches)

    def get_next(self):
        """Returns the next input, or None."""
        return next(self._batches, None)
