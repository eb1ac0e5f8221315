"""Copies of a GPU's tensors on torch, whose reader waits for no more than it must."""

import torch


def copies_begun(tensors):
    """Begins to copy tensors of one device; returns the copies and what waits for them.

    To read a tensor at once is to wait for all that was asked of its GPU by then.
    """
    copies = [tensor.detach().to("cpu", non_blocking=True) for tensor in tensors]
    done = torch.Event(tensors[0].device)
    done.record()
    return copies, done.synchronize
