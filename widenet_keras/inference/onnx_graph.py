"""What an ONNX file holds, looked at before onnxruntime sees it."""

import math

from widenet_keras.files.manifest import damaged
from widenet_keras.utils.memory import check_memory
from widenet_keras.utils.protobuf import message_class, walk

# Of `onnx.proto`: the fields by which a model reads other files, and what leads there.
_MESSAGES = {
    "Model": {
        "graph": (7, "Graph"),
        "training": (20, "Any*"),
        "function": (25, "Function*"),
    },
    "Graph": {
        "node": (1, "Node*"),
        "initializer": (5, "Tensor*"),
        "sparse": (15, "Any*"),
    },
    "Function": {"node": (7, "Node*"), "attribute": (11, "Attribute*")},
    "Node": {
        "kind": (4, "string"),
        "attribute": (5, "Attribute*"),
        "domain": (7, "string"),
    },
    "Attribute": {
        "tensor": (5, "Tensor"),
        "graph": (6, "Graph"),
        "tensors": (10, "Tensor*"),
        "graphs": (11, "Graph*"),
        "sparse": (22, "Any*"),
        "sparse_tensors": (23, "Any*"),
    },
    "Tensor": {
        "dims": (1, "int64*"),
        "name": (8, "string"),
        "external": (13, "Any*"),
        "location": (14, "int64"),
    },
    "Any": {},
}
_DOMAINS = ("", "ai.onnx", "ai.onnx.ml")


def check_onnx_graph(content: bytes, path, max_memory: int):
    """Raises `ValueError` if a model reads other files, or is too large.

    Args:
        content: The serialised model.
        path: The file, for messages.
        max_memory: Bytes that its weights may take beyond what the file weighs.
    """
    try:
        model = message_class("onnx", _MESSAGES, "Model").FromString(content)
        for part in walk(model):
            _CHECKS.get(part.DESCRIPTOR.name, _nothing)(part)
    except ImportError:
        raise
    # protobuf's class for bytes that are no message is another one in each version.
    except Exception as error:
        raise damaged(path, error) from error
    tensors = (each for each in walk(model) if each.DESCRIPTOR.name == "Tensor")
    # No type has less than half a byte.
    elements = sum(abs(math.prod(each.dims)) for each in tensors)
    check_memory(path, "its weights", elements // 2, max_memory)


def _check_model(model):
    if model.training:
        raise ValueError("it has a training graph, which no export writes")


def _check_node(node):
    if node.domain not in _DOMAINS:
        raise ValueError(f"operation {node.kind!r} is of {node.domain!r}, not of ONNX")


def _check_sparse(part):
    if any(field.name.startswith("sparse") for field, _ in part.ListFields()):
        raise ValueError("it has sparse weights, which no export writes")


def _check_tensor(tensor):
    if tensor.external or tensor.location:
        raise ValueError(f"the weights {tensor.name!r} are kept in another file")


def _nothing(part):
    pass


_CHECKS = {
    "Model": _check_model,
    "Graph": _check_sparse,
    "Attribute": _check_sparse,
    "Node": _check_node,
    "Tensor": _check_tensor,
}
