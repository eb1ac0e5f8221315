"""Checkpoints of PyTorch, read without running anything of them.

Those of PyTorch 1.6 and later are read without PyTorch.
"""

import argparse
import io
import pickle
import zipfile

import numpy as np

from widenet_keras.conversions.reading import as_numbers, mapped, reading, shown
from widenet_keras.conversions.torch_pickles import Tensor, unpickled

_KIND = "a PyTorch checkpoint"
# How files of before 2020 begin: a pickled number of their own.
_OLD = bytes.fromhex("80028a0a6cfc9c46f920")
_ORDERS = {"little": "<", "big": ">"}
# More than the pickle of any model has.
_LONGEST_PICKLE = 2**28
# Where trained weights stand in a checkpoint; averages and teachers come first.
_WRAPPERS = (
    "model_ema",
    "state_dict_ema",
    "state_dict",
    "model",
    "teacher",
    "model_state_dict",
    "params",
    "student",
)


def read_torch(path) -> dict[str, np.ndarray]:
    """Returns the tensors of a checkpoint by their names.

    Of a checkpoint with more than weights the weights are taken, an average of them
    first.

    Args:
        path: The file (.bin, .pth, .pt).

    Raises:
        ValueError: If it is damaged, of TorchScript, asks for anything but tensors, or
            is of before PyTorch 1.6 and torch is not installed.
    """
    with open(path, "rb") as file:
        start = file.read(len(_OLD))
    if start == _OLD:
        return _by_torch(path)
    with reading(path, _KIND), zipfile.ZipFile(path) as archive:
        root = _root(archive)
        found, storages = _content(archive, root)
        tensors = _weights(found)
        places = _places(path, archive, root, storages)
        return {
            name: as_numbers(_array(tensor, *places[tensor.storage.key]), name)
            for name, tensor in tensors.items()
        }


def _by_torch(path):
    """Returns the tensors of a checkpoint of before PyTorch 1.6."""
    try:
        import torch
    except ImportError:
        raise ValueError(
            f"{path} is a checkpoint of before PyTorch 1.6; install torch, or convert "
            "it to safetensors."
        ) from None
    known = torch.serialization.safe_globals([argparse.Namespace])
    with reading(path, _KIND), known:
        try:
            found = torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError:
            # torch's own text tells how to open it all the same.
            raise ValueError("it asks for more than tensors") from None
        return {
            name: as_numbers(_of_torch(each.detach()), name)
            for name, each in _weights(found, torch.Tensor).items()
        }


def _of_torch(tensor):
    # NumPy has no bfloat16.
    return (tensor.float() if tensor.element_size() == 2 else tensor).numpy()


def _root(archive):
    """Returns the folder that everything of a checkpoint is in, with its slash."""
    names = archive.namelist()
    if any(name.endswith(("/constants.pkl", "/version.torchscript")) for name in names):
        raise ValueError(
            "it is a TorchScript program; take the weights as safetensors, from timm "
            "or Hugging Face"
        )
    found = [name for name in names if name.endswith("/data.pkl")]
    if len(found) != 1:
        raise ValueError("it has no single data.pkl")
    return found[0].removesuffix("data.pkl")


def _content(archive, root):
    """Returns what the pickle makes, and the storages that it names."""
    member = archive.getinfo(f"{root}data.pkl")
    if member.file_size > min(_LONGEST_PICKLE, 1000 * max(member.compress_size, 1)):
        raise ValueError(f"its data.pkl would unpack to {member.file_size} bytes")
    return unpickled(io.BytesIO(archive.read(member)))


def _weights(found, kind=Tensor):
    """Returns the tensors by name of a state dict, or of one in a checkpoint."""
    while isinstance(found, dict):
        inner = next(
            (found[key] for key in _WRAPPERS if isinstance(found.get(key), dict)), None
        )
        if inner is None:
            break
        found = inner
    tensors = (
        {str(key): each for key, each in found.items() if isinstance(each, kind)}
        if isinstance(found, dict)
        else {}
    )
    if not tensors:
        raise ValueError("it holds no dict of tensors")
    return tensors


def _places(path, archive, root, storages):
    """Returns by key the bytes of each storage, and the order of its numbers."""
    order = "<"
    if f"{root}byteorder" in archive.namelist():
        named = archive.read(f"{root}byteorder")[:16].decode()
        order = _ORDERS[named]
    content, found = mapped(path), {}
    for key, storage in storages.items():
        member = archive.getinfo(f"{root}data/{key}")
        size = np.dtype(storage.dtype).itemsize * storage.count
        stored = member.compress_type == zipfile.ZIP_STORED
        if not stored or not size == member.file_size == member.compress_size:
            raise ValueError(
                f"the storage {shown(key)} has {member.file_size} bytes and its "
                f"{storage.count} numbers take {size}"
            )
        # The name and what else stands before the bytes differ from the directory's.
        start = member.header_offset + 30
        lengths = content[start - 4 : start]
        start += int.from_bytes(lengths[:2], "little")
        start += int.from_bytes(lengths[2:], "little")
        if start + size > len(content):
            raise ValueError(f"the storage {shown(key)} ends behind the file")
        found[key] = memoryview(content)[start : start + size], order
    return found


def _array(tensor, content, order):
    """Returns a tensor as an array of its own."""
    dtype = np.dtype(tensor.storage.dtype)
    if dtype.itemsize > 1:
        # bfloat16 has no order of its own in NumPy.
        if dtype.kind == "V" and order == ">":
            raise ValueError("its bfloat16 numbers are of a big-endian machine")
        dtype = dtype.newbyteorder(order) if dtype.kind != "V" else dtype
    flat = np.frombuffer(content, dtype)[tensor.offset :]
    strides = [stride * dtype.itemsize for stride in tensor.strides]
    return np.lib.stride_tricks.as_strided(flat, tensor.shape, strides).copy()
