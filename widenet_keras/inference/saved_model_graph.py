"""What a SavedModel holds, looked at before TensorFlow sees it."""

import math
from pathlib import Path, PurePosixPath

from widenet_keras.files.checksums import GRAPH
from widenet_keras.files.manifest import damaged
from widenet_keras.inference.graph_operations import OPERATIONS, SAVER_OPERATIONS
from widenet_keras.utils.memory import check_memory
from widenet_keras.utils.printable import printable
from widenet_keras.utils.protobuf import message_class, walk

# Of `saved_model.proto` and what it imports: where operations, functions, files and
# sizes are.
_MESSAGES = {
    "SavedModel": {"graphs": (2, "MetaGraph*")},
    "MetaGraph": {
        "graph": (2, "Graph"),
        "collections": (4, "Collection*"),
        "assets": (6, "Asset*"),
        "objects": (7, "Objects"),
    },
    "Collection": {"key": (1, "string"), "value": (2, "CollectionValue")},
    "CollectionValue": {"nodes": (1, "Names")},
    "Asset": {"filename": (2, "string")},
    "Graph": {"node": (1, "Node*"), "library": (2, "Library")},
    "Library": {"function": (1, "Function*")},
    "Function": {
        "signature": (1, "Signature"),
        "node": (3, "Node*"),
        "attribute": (5, "Entry*"),
    },
    "Signature": {"name": (1, "string")},
    "Node": {
        "name": (1, "string"),
        "operation": (2, "string"),
        "attribute": (5, "Entry*"),
    },
    "Entry": {"key": (1, "string"), "value": (2, "Value")},
    "Value": {"list": (1, "Values"), "tensor": (8, "Tensor"), "call": (10, "Call")},
    "Values": {"tensor": (8, "Tensor*"), "call": (9, "Call*")},
    "Call": {"name": (1, "string"), "attribute": (2, "Entry*")},
    "Tensor": {"dtype": (1, "int64"), "shape": (2, "Shape")},
    "Shape": {"dim": (2, "Dim*")},
    "Dim": {"size": (1, "int64")},
    "Objects": {"node": (1, "Object*"), "functions": (2, "ObjectEntry*")},
    "ObjectEntry": {"name": (1, "string")},
    "Object": {
        "plain": (4, "Plain"),
        "function": (6, "Names"),
        "variable": (7, "Variable"),
        "bare": (8, "Bare"),
        "resource": (10, "Any"),
        "captured": (12, "Any"),
        "registered": (13, "string"),
        "saver": (16, "Any"),
    },
    "Plain": {"identifier": (1, "string")},
    "Names": {"name": (1, "string*")},
    "Bare": {"name": (1, "string")},
    "Variable": {"dtype": (1, "int64"), "shape": (2, "Shape")},
    "Any": {},
}
_OBJECTS = {
    "",
    "_generic_user_object",
    "signature_map",
    "trackable_dict_wrapper",
    "trackable_list_wrapper",
    "trackable_tuple_wrapper",
}
_FOREIGN = {"resource", "captured", "registered", "saver"}
_MAIN = "saved_model_main_op"
# Bytes of a number, by TensorFlow's numbers of its types.
_FLOAT, _OTHERS = 4, {2: 8, 4: 1, 6: 1, 9: 8, 10: 1, 14: 2, 19: 2}


def check_saved_model_graph(folder: Path, trust: bool, max_memory: int):
    """Raises `ValueError` if a SavedModel would run what no export holds, or too much.

    Args:
        folder: The SavedModel.
        trust: Whether operations outside of the table of them are let through.
        max_memory: Bytes that its constants and variables may take beyond what the
            folder weighs.
    """
    for each in sorted(folder.glob("saved_model.*")):
        # TensorFlow takes another such file before this one.
        if each.name != GRAPH:
            raise damaged(folder, f"it has {each.name} beside {GRAPH}")
    try:
        model = _read((folder / GRAPH).read_bytes())
    except ImportError:
        raise
    # protobuf's class for bytes that are no message is another one in each version.
    except Exception as error:
        raise damaged(folder, error) from error
    check_memory(folder, "constants and variables", _size_of(model), max_memory)
    if trust:
        return
    found = _not_allowed(model.graphs[0])
    if found is not None:
        raise ValueError(
            f"{folder} holds {printable(found)}, which no export of widenet_keras does "
            "and which may read, write or run what is yours; if you trust who made it, "
            "open it with --trust (trust=True in Python)."
        )


def _read(content):
    model = message_class("saved_model", _MESSAGES, "SavedModel").FromString(content)
    if len(model.graphs) != 1 or not model.graphs[0].HasField("objects"):
        raise ValueError("it is no SavedModel of one graph with its objects")
    return model


def _size_of(model):
    """Returns the bytes of constants and variables; a few may stand for many."""
    return sum(
        _OTHERS.get(each.dtype, _FLOAT)
        * abs(math.prod(dim.size for dim in each.shape.dim))
        for each in walk(model)
        if each.DESCRIPTOR.name in ("Tensor", "Variable")
    )


def _not_allowed(graph):
    """Returns what a graph should not hold, in words, or None."""
    functions = graph.graph.library.function
    savers = _only_in_savers(graph, functions)
    places = [("", graph.graph.node)]
    places += [(each.signature.name, each.node) for each in functions]
    for place, nodes in places:
        allowed = OPERATIONS | (SAVER_OPERATIONS if place in savers else frozenset())
        for node in nodes:
            if node.operation not in allowed:
                return f"the operation {node.operation}"
    for each in graph.collections:
        if each.key == _MAIN and list(each.value.nodes.name) != ["NoOp"]:
            return "what runs as it is loaded"
    for each in graph.assets:
        name = PurePosixPath(each.filename)
        if name.is_absolute() or ".." in name.parts:
            return f"the file {each.filename}"
    for each in graph.objects.node:
        kinds = {field.name for field, _ in each.ListFields()} & _FOREIGN
        if kinds or each.plain.identifier not in _OBJECTS:
            return f"an object of the kind {each.plain.identifier or min(kinds)}"
    return None


def _only_in_savers(graph, functions):
    """Returns the names of functions that no other function and no object calls."""
    objects = graph.objects
    called = {each.name for each in objects.functions}
    for each in objects.node:
        called |= {*each.function.name, each.bare.name}
    for function in functions:
        called |= {
            each.name for each in walk(function) if each.DESCRIPTOR.name == "Call"
        }
        called |= {node.operation for node in function.node}
    return {each.signature.name for each in functions} - called
