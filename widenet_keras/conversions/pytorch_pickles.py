"""The pickles inside PyTorch's files, read without running anything of them.

A pickle is a program. Of its operations the ones that make numbers, texts, lists and
dicts are known here, and of all that it may call only what stands for a tensor; calling
makes a description of the tensor, with no memory for its numbers.
"""

import math
import pickle
from typing import NamedTuple

from widenet_keras.conversions.reading import shown

# NumPy's names of the types of PyTorch's storages; "V2" is bfloat16.
_STORAGES = {
    "torch.DoubleStorage": "<f8",
    "torch.FloatStorage": "<f4",
    "torch.HalfStorage": "<f2",
    "torch.BFloat16Storage": "V2",
    "torch.LongStorage": "<i8",
    "torch.IntStorage": "<i4",
    "torch.ShortStorage": "<i2",
    "torch.CharStorage": "i1",
    "torch.ByteStorage": "u1",
    "torch.BoolStorage": "?",
}
_OPERATIONS = """
PROTO FRAME MARK STOP NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 BINFLOAT
BINUNICODE SHORT_BINUNICODE BINBYTES SHORT_BINBYTES EMPTY_TUPLE TUPLE TUPLE1 TUPLE2
TUPLE3 EMPTY_LIST APPEND APPENDS EMPTY_DICT SETITEM SETITEMS BINPUT LONG_BINPUT
MEMOIZE BINGET LONG_BINGET GLOBAL STACK_GLOBAL BINPERSID REDUCE NEWOBJ BUILD
"""
_MOST_AXES = 32


class Storage(NamedTuple):
    """Numbers of one type, kept one behind the other."""

    dtype: str
    key: str
    count: int


class Tensor(NamedTuple):
    """A part of a storage that is seen as an array."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Ignored:
    """What a checkpoint has beside tensors, such as its arguments: nothing of it."""


def unpickled(file) -> tuple[object, dict[str, Storage]]:
    """Returns what the next pickle of a file makes, and the storages that it names.

    Args:
        file: Binary file object.

    Raises:
        Exception: Of any kind, if it is damaged or needs something else.
    """
    unpickler = _Unpickler(file)
    return unpickler.load(), unpickler.storages


class _Unpickler(pickle._Unpickler):
    """Python's unpickler of Python code, whose operations stand in a table.

    The one of C code has no such table, and makes room for whatever number of objects
    a pickle speaks of.
    """

    def __init__(self, file):
        super().__init__(file)
        self.storages = {}
        self.known = {
            "collections.OrderedDict": dict,
            "argparse.Namespace": _Ignored,
            "torch._utils._rebuild_tensor_v2": _tensor,
            "torch._utils._rebuild_parameter": _parameter,
            **_STORAGES,
        }

    def find_class(self, module, name):
        """Returns what stands for a global."""
        full = f"{module}.{name}"
        if full not in self.known:
            raise pickle.UnpicklingError(
                f"it calls for {shown(full)}, and nothing but tensors is read"
            )
        return self.known[full]

    def persistent_load(self, pid):
        """Returns the description of a storage."""
        # Earlier files end with views of other storages, which nobody made.
        if not isinstance(pid, tuple) or pid[5:] not in ((), (None,)):
            raise pickle.UnpicklingError("it has a storage of an unknown kind")
        kind, dtype, key, _, count = pid[:5]
        named = kind == "storage" and isinstance(key, str) and _is_count(count)
        if not named or dtype not in _STORAGES.values():
            raise pickle.UnpicklingError("it has a storage of an unknown kind")
        storage = Storage(dtype, key, count)
        if self.storages.setdefault(key, storage) != storage:
            raise pickle.UnpicklingError(f"the storage {shown(key)} is of two kinds")
        return storage

    def refuse(self):
        """Ends at an operation that no tensors need."""
        raise pickle.UnpicklingError("it has operations that no tensors need")

    def named(self):
        """Refuses an instance by the name of its class, or for being one."""
        module, name = (self.readline()[:-1].decode("ascii") for _ in range(2))
        self.find_class(module, name)
        self.refuse()

    def set_item(self):
        """Sets an item of a dict."""
        _check_keys(self.stack[-2:-1])
        super().load_setitem()

    def set_items(self):
        """Sets items of a dict."""
        _check_keys(self.stack[::2])
        super().load_setitems()

    def call(self):
        """Calls one of the functions of tensors, or makes an empty dict."""
        arguments = self.stack.pop()
        function = self.stack[-1]
        if function not in (_tensor, _parameter) and (function, arguments) != (
            dict,
            (),
        ):
            self.refuse()
        self.stack[-1] = function(*arguments)

    def drop_state(self):
        """Leaves out attributes, which only what is ignored has."""
        self.stack.pop()

    dispatch = dict.fromkeys(range(256), refuse) | {
        code: pickle._Unpickler.dispatch[code]
        for code in (getattr(pickle, name)[0] for name in _OPERATIONS.split())
    }
    dispatch[pickle.INST[0]] = named
    dispatch[pickle.SETITEM[0]] = set_item
    dispatch[pickle.SETITEMS[0]] = set_items
    dispatch[pickle.REDUCE[0]] = call
    dispatch[pickle.BUILD[0]] = drop_state


def _check_keys(keys):
    # Nested tuples take forever to hash.
    if not all(isinstance(key, str | int | float) for key in keys):
        raise pickle.UnpicklingError("it has a dict with keys that are no names")


def _is_count(value):
    return type(value) is int and 0 <= value < 2**63


def _tensor(storage, offset, shape, strides, *_):
    """Returns what `torch._utils._rebuild_tensor_v2` is asked for."""
    fits = isinstance(storage, Storage) and all(
        isinstance(each, tuple) and len(each) <= _MOST_AXES for each in (shape, strides)
    )
    if not fits or not all(map(_is_count, (offset, *shape, *strides))):
        raise pickle.UnpicklingError("it has a tensor that is none")
    if len(shape) != len(strides):
        raise pickle.UnpicklingError(f"a tensor of {shape} has strides {strides}")
    count = math.prod(shape)
    steps = zip(shape, strides, strict=True)
    last = offset + sum((size - 1) * stride for size, stride in steps)
    if count and (last >= storage.count or count > storage.count):
        raise pickle.UnpicklingError(
            f"a tensor of {shown(shape)} is in a storage of {storage.count} numbers"
        )
    return Tensor(storage, offset, shape, strides)


def _parameter(data, *_):
    """Returns what `torch._utils._rebuild_parameter` is asked for."""
    if not isinstance(data, Tensor):
        raise pickle.UnpicklingError("it has a parameter that is no tensor")
    return data
