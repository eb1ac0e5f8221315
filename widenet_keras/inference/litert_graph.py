"""What a LiteRT file holds, looked at before an interpreter sees it."""

import importlib
import math

from widenet_keras.files.manifest import damaged
from widenet_keras.utils.install import is_installed
from widenet_keras.utils.memory import check_memory

# An offset up to here says that a buffer has its bytes in place.
_IN_PLACE = 1
_BYTES = 4


def check_litert_graph(content: bytes, path, max_memory: int):
    """Raises `ValueError` if a model needs more than built-in operators, or too much.

    On TensorFlow's interpreter custom operators reach all of TensorFlow, those that
    read and write files included.

    Args:
        content: The model.
        path: The file, for messages.
        max_memory: Bytes that a tensor may take beyond what the file weighs.
    """
    schema = _schema()
    try:
        model = schema.Model.GetRootAsModel(content, 0)
        for code in _each(content, model, "OperatorCodes"):
            _check_operator(schema, code)
        for buffer in _each(content, model, "Buffers"):
            if buffer.Offset() > _IN_PLACE or buffer.Size():
                raise ValueError("it keeps weights behind the model")
        largest = 0
        for graph in _each(content, model, "Subgraphs"):
            for tensor in _each(content, graph, "Tensors"):
                if getattr(tensor, "ExternalBuffer", int)():
                    raise ValueError("it keeps weights in another file")
                shape = [
                    tensor.Shape(i) for i in range(_length(content, tensor, "Shape"))
                ]
                largest = max(largest, abs(math.prod(shape)))
    # What flatbuffers raises on bytes that are no model is of many classes.
    except Exception as error:
        raise damaged(path, error) from error
    check_memory(path, "one of its tensors", _BYTES * largest, max_memory)


def _check_operator(schema, code):
    custom = schema.BuiltinOperator.CUSTOM
    name = code.CustomCode()
    if custom in (code.BuiltinCode(), code.DeprecatedBuiltinCode()) or name:
        raise ValueError(f"it has the custom operator {(name or b'').decode()!r}")


def _each(content, table, field):
    """Returns the entries of a vector of a flatbuffer's table, one by one."""
    get = getattr(table, field)
    return (get(index) for index in range(_length(content, table, field)))


def _length(content, table, field):
    """Returns the length of a vector, which the file must have room for."""
    length = getattr(table, f"{field}Length")()
    if _BYTES * length > len(content):
        raise ValueError(f"it says that it has {length} {field}")
    return length


def _schema():
    """Returns the module that reads such models, of LiteRT or of TensorFlow."""
    if is_installed("ai_edge_litert"):
        return importlib.import_module("ai_edge_litert.schema_py_generated")
    from widenet_keras.inference.litert_tensorflow import schema

    return schema
