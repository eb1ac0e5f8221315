"""What the processes of a `torchrun` job tell each other."""

import torch
import torch.distributed


def processes():
    """Returns the number of processes that train together."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_world_size()
    return 1


def rank():
    """Returns which of several processes this is; None if it is the only one."""
    return torch.distributed.get_rank() if processes() > 1 else None


def rows_of_process(count):
    """Returns the slice of a batch of `count` rows that this process computes."""
    size, index = processes(), rank()
    return slice(count * index // size, count * (index + 1) // size)


def total(tensor):
    """Returns the sum of a tensor over the processes."""
    tensor = tensor.detach().clone()
    torch.distributed.all_reduce(tensor)
    return tensor


def totals(tensors):
    """Returns the sums of several tensors over the processes, in one message.

    One flat buffer per type and device: as few messages as there can be. Sums that
    start while others are still computed, as `DistributedDataParallel` has them,
    gain nothing here: the gradient of weights that every step shares is complete
    only when the backward pass has ended.

    Args:
        tensors: List of tensors; None stays None.
    """
    groups = {}
    for place, tensor in enumerate(tensors):
        if tensor is not None:
            groups.setdefault((tensor.dtype, tensor.device), []).append(place)
    summed = list(tensors)
    for places in groups.values():
        flat = torch.cat([tensors[place].detach().reshape(-1) for place in places])
        torch.distributed.all_reduce(flat)
        sizes = [tensors[place].numel() for place in places]
        for place, part in zip(places, flat.split(sizes), strict=True):
            summed[place] = part.view_as(tensors[place])
    return summed


def joined_rows(rows, count):
    """Returns the rows of all processes in their order.

    Args:
        rows: (n, ...), what `rows_of_process` gave this process.
        count: Rows in all.
    """
    size = processes()
    most = -(-count // size)
    padded = rows.new_zeros((most, *rows.shape[1:]))
    padded[: len(rows)] = rows
    parts = [torch.empty_like(padded) for _ in range(size)]
    torch.distributed.all_gather(parts, padded)
    ends = [count * rank // size for rank in range(size + 1)]
    return torch.cat(
        [part[: ends[i + 1] - ends[i]] for i, part in enumerate(parts)], dim=0
    )
