"""Checkpoints of PyTorch, read without PyTorch.

Those since version 1.6 are zip archives: a pickle that describes the tensors, and a
member for each storage. Earlier ones are five pickles in a row, then the storages.
"""

import io
import struct
import zipfile

import numpy as np

from widenet_keras.conversions.names import WRAPPERS
from widenet_keras.conversions.pytorch_pickles import Tensor, unpickled
from widenet_keras.conversions.reading import as_numbers, mapped, reading, shown

# The first two pickles of an earlier file: its number and its version.
_OLD = [0x1950A86A20F9469CFC6C, 1001]
_KIND = "a PyTorch file of tensors"
_REMEDY = (
    "fetch it again, or open it where you trust it and save the state_dict() of its "
    "model as .safetensors"
)
# A pickle needs a hundred bytes for a tensor, and can make much of a few.
_LONGEST_PICKLE = 2**24
_LOCAL_HEADER = 30
# Before each storage of an earlier file stands its length.
_COUNT = 8


def read_torch(path) -> dict[str, np.ndarray]:
    """Returns the tensors of a checkpoint, of its weights where it has several parts.

    Args:
        path: The file.

    Raises:
        ValueError: If it is a program (TorchScript), calls for anything but tensors, or
            is damaged.
    """
    with reading(path, _KIND, _REMEDY):
        content = mapped(path)
        zipped = content[:4] == zipfile.stringFileHeader
        tree, places, big = (_of_archive if zipped else _of_pickles)(path, content)
        tensors = _tensors_in(tree)
        views = _views(set(tensors.values()), content, places, big)
        return {
            name: as_numbers(views[tensor], name) for name, tensor in tensors.items()
        }


def _of_archive(path, content):
    """Returns what a zip archive holds.

    Returns:
        Tuple of what its pickle makes, the (begin, end) of each storage, and whether
        numbers have their largest byte first.
    """
    with zipfile.ZipFile(path) as archive:
        members = {each.filename: each for each in archive.infolist()}
    pickles = [name for name in members if name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise ValueError(f"it has {len(pickles)} members data.pkl")
    root = pickles[0].removesuffix("data.pkl")
    if any(n.startswith((f"{root}constants.pkl", f"{root}code/")) for n in members):
        raise ValueError(
            "it is TorchScript, which is a program; many are on the Hugging Face Hub "
            "as weights too, such as OpenAI's CLIP for timm and transformers"
        )
    begin, end = _place(content, members[pickles[0]])
    if end - begin > _LONGEST_PICKLE:
        raise ValueError(f"it has a pickle of {end - begin} bytes")
    tree, storages = unpickled(io.BytesIO(content[begin:end]))
    places = {key: _place(content, members[f"{root}data/{key}"]) for key in storages}
    order = b"little"
    if f"{root}byteorder" in members:
        begin, end = _place(content, members[f"{root}byteorder"])
        order = content[begin:end]
    if order not in (b"little", b"big"):
        raise ValueError(f"its order of bytes is {shown(order)}")
    return tree, places, order == b"big"


def _place(content, member):
    """Returns the (begin, end) of the bytes of a member of a zip archive."""
    if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1:
        raise ValueError(f"{shown(member.filename)} is packed")
    start = member.header_offset
    header = content[start : start + _LOCAL_HEADER]
    if len(header) < _LOCAL_HEADER or header[:4] != zipfile.stringFileHeader:
        raise ValueError(f"{shown(member.filename)} is not where it should be")
    begin = start + _LOCAL_HEADER + sum(struct.unpack("<2H", header[26:]))
    return begin, begin + member.file_size


def _of_pickles(path, content):
    """Returns what an earlier file holds, as `_of_archive` does."""
    file = io.BytesIO(content[:_LONGEST_PICKLE])
    *start, system = (unpickled(file)[0] for _ in range(3))
    if start != _OLD or not isinstance(system, dict):
        raise ValueError("it has a header of an unknown kind")
    tree, storages = unpickled(file)
    keys, _ = unpickled(file)
    # Nested tuples take forever to hash.
    named = isinstance(keys, list) and all(isinstance(key, str) for key in keys)
    if not named or set(keys) != set(storages):
        raise ValueError("its storages are not those of its tensors")
    places, begin = {}, file.tell()
    for key in keys:
        size = storages[key].count * np.dtype(storages[key].dtype).itemsize
        begin += _COUNT
        count = int.from_bytes(content[begin - _COUNT : begin], "little")
        if count != storages[key].count:
            raise ValueError(f"its storage {shown(key)} is of another size")
        places[key] = begin, begin + size
        begin += size
    # Machines of either order write the smallest byte first there.
    return tree, places, False


def _tensors_in(tree):
    """Returns the tensors of a checkpoint by their names, without what is around."""
    # One may be made to hold itself.
    for _ in WRAPPERS:
        inner = tree if isinstance(tree, dict) else {}
        found = (inner.get(name) for name in WRAPPERS)
        tree = next(filter(_holds_weights, found), tree)
    if not isinstance(tree, dict):
        raise ValueError(f"it holds a {type(tree).__name__} and no dict of tensors")
    tensors = {n: t for n, t in tree.items() if isinstance(t, Tensor)}
    if not tensors:
        names = ", ".join(shown(name) for name in list(tree)[:5])
        raise ValueError(
            f"it holds {names or 'nothing'}, and no tensors there or under "
            f"{', '.join(WRAPPERS)}"
        )
    return {str(name): tensor for name, tensor in tensors.items()}


def _holds_weights(tree):
    return isinstance(tree, dict) and any(
        isinstance(each, Tensor | dict) for each in tree.values()
    )


def _views(tensors, content, places, big):
    """Returns the array of each tensor, which is a view of the file where it can be."""
    needed = 0
    for each in tensors:
        storage, size = each.storage, np.dtype(each.storage.dtype).itemsize
        begin, end = places[storage.key]
        if end - begin != storage.count * size or end > len(content):
            raise ValueError(f"its storage {shown(storage.key)} is cut off")
        needed += int(np.prod(each.shape, dtype=object)) * size
    # Tensors that share numbers are the same tensor.
    if needed > len(content):
        raise ValueError(f"its tensors overlap: {needed} bytes in {len(content)}")
    return {
        each: _view(each, content, places[each.storage.key][0], big) for each in tensors
    }


def _view(tensor, content, begin, big):
    storage, offset, shape, strides = tensor
    dtype = np.dtype(storage.dtype)
    if 0 in shape:
        return np.zeros(shape, dtype)
    flat = np.frombuffer(content, dtype, storage.count, begin)[offset:]
    if big:
        flat = flat.view(f"u{dtype.itemsize}").byteswap().view(dtype)
    steps = [stride * dtype.itemsize for stride in strides]
    return np.lib.stride_tricks.as_strided(flat, shape, steps)
