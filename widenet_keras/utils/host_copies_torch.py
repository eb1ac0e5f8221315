"""Copies of a GPU's tensors on torch, whose reader waits for no more than it must."""

import torch


def is_far(tensor):
    """Whether a tensor is on a device that works while the host goes on."""
    return tensor.device.type not in ("cpu", "meta")


def copy(tensor):
    """Returns a tensor of its own on the same device."""
    return tensor.clone()


def begun(tensors):
    """Begins to copy tensors of GPUs; returns the copies and what waits for them.

    To read a tensor at once is to wait for all that was asked of its GPU by then.
    """
    copies = [tensor.detach().to("cpu", non_blocking=True) for tensor in tensors]
    events = []
    for device in {tensor.device for tensor in tensors}:
        events.append(torch.Event(device))
        events[-1].record(torch.accelerator.current_stream(device))

    def wait():
        for event in events:
            event.synchronize()

    return copies, wait
