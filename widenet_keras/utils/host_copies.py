"""Small tensors of an accelerator on the host, without waiting for what comes later."""

import keras
import numpy as np

BACKEND = keras.backend.backend()


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


def copies_begun(values):
    """Begins to copy values to the host.

    Args:
        values: List of tensors, of what NumPy makes arrays of, and of None.

    Returns:
        A function that returns them as a list of NumPy arrays, None where they are. It
        waits for what was asked of the device before this call, not for what has been
        since.
    """
    far = [each for each in values if is_on_accelerator(each)]
    if BACKEND == "torch" and far:
        import torch

        # Reading a tensor of a GPU waits for all that the host has asked for by then.
        near = {id(each): each.detach().to("cpu", non_blocking=True) for each in far}
        values = [near.get(id(each), each) for each in values]
        done = torch.Event(far[0].device)
        done.record()

    def finish():
        if BACKEND == "torch" and far:
            done.synchronize()
        return [_as_numpy(each) for each in values]

    return finish


def _as_numpy(value):
    if keras.ops.is_tensor(value):
        return keras.ops.convert_to_numpy(value)
    return None if value is None else np.asarray(value)
