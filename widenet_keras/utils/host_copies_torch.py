"""Copies of a GPU's tensors on torch, whose reader waits for no more than it must."""

import torch


def copies_begun(tensors):
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
