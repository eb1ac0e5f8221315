"""What ONNX models store: weights once and in few bytes, names short."""

import onnx
from onnx import TensorProto, helper, numpy_helper

from widenet_keras.exports.int8 import SMALLEST, is_router
from widenet_keras.utils.rounding import in_float16, in_int8


def stored_once(model):
    """Removes weights that stand in the model again, in place.

    Constants that the converter folded appear once for every step that reads them.

    Args:
        model: `onnx.ModelProto`.
    """
    graph = model.graph
    first, renamed, kept = {}, {}, []
    for tensor in graph.initializer:
        array = numpy_helper.to_array(tensor)
        key = (tensor.data_type, tuple(tensor.dims), array.tobytes())
        if key in first:
            renamed[tensor.name] = first[key]
        else:
            first[key] = tensor.name
            kept.append(tensor)
    for node in graph.node:
        for place, name in enumerate(node.input):
            node.input[place] = renamed.get(name, name)
    del graph.initializer[:]
    graph.initializer.extend(kept)


def stored_smaller(model, quantize, kept):
    """Stores large float32 weights in fewer bits, in place; they are read as float32.

    Ranges of activations would be those of a whole call, so that an answer would
    depend on the other images in it: what is computed stays in float.

    Args:
        model: `onnx.ModelProto`.
        quantize: "float16", or "dynamic_int8": one scale per output channel.
        kept: NumPy arrays that "dynamic_int8" leaves as they are.
    """
    graph = model.graph
    nodes, tensors = [], []
    for tensor in graph.initializer:
        value = numpy_helper.to_array(tensor)
        if tensor.data_type != TensorProto.FLOAT or value.size < SMALLEST:
            tensors.append(tensor)
        elif quantize == "float16":
            stored = f"{tensor.name}_float16"
            tensors.append(numpy_helper.from_array(in_float16(value), stored))
            nodes.append(_cast(stored, tensor.name))
        elif value.ndim < 2 or is_router(value, kept):
            tensors.append(tensor)
        else:
            stored = f"{tensor.name}_int8"
            rounded, scale = in_int8(value, axis=-2)
            tensors.append(numpy_helper.from_array(rounded, stored))
            tensors.append(numpy_helper.from_array(scale, f"{stored}_scale"))
            nodes.append(_cast(stored, f"{stored}_float"))
            names = [f"{stored}_float", f"{stored}_scale"]
            node = helper.make_node("Mul", names, [tensor.name], f"{stored}_scaled")
            nodes.append(node)
    del graph.initializer[:]
    graph.initializer.extend(tensors)
    # Every value must be computed before it is read.
    nodes.extend(graph.node)
    del graph.node[:]
    graph.node.extend(nodes)


def _cast(stored, name):
    """Returns the node that reads a stored weight as float32."""
    return helper.make_node(
        "Cast", [stored], [name], f"{stored}_cast", to=TensorProto.FLOAT
    )


def router_nodes(model, kernels):
    """Returns the names of the products with the given weights.

    Args:
        model: `onnx.ModelProto`.
        kernels: NumPy arrays of the routers' kernels.
    """
    names = {
        tensor.name
        for tensor in model.graph.initializer
        if is_router(numpy_helper.to_array(tensor), kernels)
    }
    return [
        node.name
        for node in model.graph.node
        if node.op_type in ("MatMul", "Gemm") and names & set(node.input)
    ]


def named_shortly(model):
    """Gives every value but inputs and outputs a short name, in place.

    The converter's names repeat the path of their layer wherever a value is read,
    and are half of a small model's graph.

    Args:
        model: `onnx.ModelProto`.
    """
    graph = model.graph
    kept = {value.name for value in (*graph.input, *graph.output)}
    short = {}

    def renamed(name):
        # An empty name stands for an input that is left out.
        if not name or name in kept:
            return name
        return short.setdefault(name, f"v{len(short)}")

    for tensor in graph.initializer:
        tensor.name = renamed(tensor.name)
    for node in graph.node:
        node.name = ""
        node.input[:] = map(renamed, node.input)
        node.output[:] = map(renamed, node.output)
    del graph.value_info[:]


def with_metadata(model, entries):
    """Returns the serialised model with entries of metadata.

    Args:
        model: `onnx.ModelProto`.
        entries: Dict of texts.
    """
    helper.set_model_props(model, entries)
    onnx.checker.check_model(model)
    return model.SerializeToString()
