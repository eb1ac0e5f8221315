"""HDF5 files from elsewhere: looked at before anything in them is read."""

import math

import h5py


def check_hdf5(file) -> int:
    """Returns the bytes that all arrays of an HDF5 file have once they are read.

    Args:
        file: A binary file object.

    Raises:
        ValueError: If something in it is kept in another file, or is no number.
        OSError: If it is no HDF5 file.
    """
    total, seen = 0, set()
    with h5py.File(file, "r") as root:
        pending = [root]
        while pending:
            group = pending.pop()
            for name in group:
                # Following such a link would open another file.
                if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                    raise ValueError(f"{group.name}/{name} points somewhere else")
                entry = group[name]
                place = h5py.h5o.get_info(entry.id).addr
                if place in seen:
                    continue
                seen.add(place)
                if isinstance(entry, h5py.Group):
                    pending.append(entry)
                elif isinstance(entry, h5py.Dataset):
                    total += _size_of(entry)
    return total


def _size_of(array):
    """Returns the bytes of an array, or of what reading it unpacks at once."""
    if array.external or array.is_virtual:
        raise ValueError(f"{array.name} is kept in another file")
    if array.dtype.hasobject:
        raise ValueError(f"{array.name} is no array of numbers")
    shapes = [array.shape or (), array.chunks or ()]
    return array.dtype.itemsize * max(map(math.prod, shapes))
