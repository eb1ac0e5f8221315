"""Copies of an accelerator's tensors, on it and on the host."""

import keras
import numpy as np

BACKEND = keras.backend.backend()

if BACKEND == "torch":
    from widenet_keras.utils import host_copies_torch as _torch


def is_on_accelerator(values) -> bool:
    """Whether values are a tensor on a device that works while the host goes on."""
    if not keras.ops.is_tensor(values):
        return False
    if BACKEND == "torch":
        return values.device.type not in ("cpu", "meta")
    if BACKEND == "jax":
        devices = getattr(values, "devices", set)()
        return any(device.platform != "cpu" for device in devices)
    return "GPU" in getattr(values, "device", "")


def copied(values):
    """Returns a tensor as one of its own on the same device; anything else as it is."""
    if not keras.ops.is_tensor(values):
        return values
    return values.clone() if BACKEND == "torch" else keras.ops.copy(values)


def copies_begun(values):
    """Begins to copy values to the host.

    Args:
        values: List of tensors, of what NumPy makes arrays of, and of None.

    Returns:
        A function that returns them as a list of NumPy arrays, None where they are. It
        waits for what was asked of the device before this call, not for what has been
        since.
    """
    far = [value for value in values if is_on_accelerator(value)]
    copies, wait = far, None
    if BACKEND == "torch" and far:
        copies, wait = _torch.copies_begun(far)
    near = dict(zip(map(id, far), copies, strict=True))

    def finish():
        if wait:
            wait()
        return [_as_numpy(near.get(id(value), value)) for value in values]

    return finish


def _as_numpy(value):
    if keras.ops.is_tensor(value):
        return keras.ops.convert_to_numpy(value)
    return None if value is None else np.asarray(value)
