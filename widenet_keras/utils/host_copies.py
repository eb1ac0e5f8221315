"""Copies of an accelerator's tensors, on it and on the host."""

import keras
import numpy as np

if keras.backend.backend() == "torch":
    from widenet_keras.utils.host_copies_torch import begun, copy, is_far
else:
    copy = keras.ops.copy

    def begun(tensors):
        """Returns the tensors, which are copied as they are read, and no wait."""
        return tensors, lambda: None

    def is_far(tensor):
        """Whether a tensor is on a GPU or TPU."""
        if keras.backend.backend() == "jax":
            devices = getattr(tensor, "devices", set)()
            return any(device.platform != "cpu" for device in devices)
        return "GPU" in getattr(tensor, "device", "")


def is_on_accelerator(values) -> bool:
    """Whether values are a tensor on a device that works while the host goes on."""
    return keras.ops.is_tensor(values) and is_far(values)


def copied(values):
    """Returns a tensor as one of its own on the same device; anything else as it is."""
    return copy(values) if keras.ops.is_tensor(values) else values


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
    copies, wait = begun(far)
    near = dict(zip(map(id, far), copies, strict=True))

    def arrays():
        wait()
        return [_as_numpy(near.get(id(value), value)) for value in values]

    return arrays


def _as_numpy(value):
    if value is None:
        return None
    if keras.ops.is_tensor(value):
        value = keras.ops.convert_to_numpy(value)
    array = np.asarray(value)
    # To NumPy it is no number.
    return array.astype("float32") if array.dtype.name == "bfloat16" else array
