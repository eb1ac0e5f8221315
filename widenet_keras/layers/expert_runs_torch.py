"""Runs of rows on torch: one grouped product on GPUs, else one MLP per run."""

import torch


def run_by_expert(mlp, rows, sizes, bank, draws, grouped=None):
    """Returns what each expert makes of its run of rows, (N, D).

    Args:
        mlp: `Mlp`.
        rows: (N, D), sorted by expert.
        sizes: (E,) int32; rows behind the last run come out as zeros.
        bank: `Bank` in the dtype of the rows.
        draws: `RandomDraws`.
        grouped: Whether one `grouped_mm` serves all runs; None for where its
            kernels are (CUDA, bfloat16, compute capability 8.0). It never waits
            for the sizes, which one product per run must know on the host.
    """
    ends = torch.cumsum(sizes, dim=0, dtype=torch.int32)
    if not (takes_stack(rows, bank) if grouped is None else grouped):
        return runs_in_turn(mlp, rows, ends, bank, draws)
    place = torch.arange(len(rows), device=rows.device).unsqueeze(1)
    served = (place < ends[-1]).to(rows.dtype)
    ends[-1] = len(rows)
    return grouped_runs(mlp, rows, ends, bank, draws) * served


def runs_in_turn(mlp, rows, ends, bank, draws):
    """The same by one MLP after the other, for runs given by their ends.

    Args:
        mlp: `Mlp`.
        rows: (N, D), sorted by expert.
        ends: (E,) int, the row behind the run of each expert.
        bank: `Bank` in the dtype of the rows.
        draws: `RandomDraws`.
    """
    ends = ends.tolist()
    sizes = [end - start for start, end in zip([0, *ends], ends, strict=False)]
    unserved = len(rows) - ends[-1]
    *runs, behind = torch.split_with_sizes(rows, [*sizes, unserved])
    outputs = [mlp(*each, draws) for each in zip(runs, bank.each, strict=True)]
    return torch.cat([*outputs, torch.zeros_like(behind)] if unserved else outputs)


def grouped_runs(mlp, rows, ends, bank, draws):
    """The same by one grouped product; every row is of a run, see `runs_in_turn`.

    `grouped_mm` leaves rows behind the last run as memory was, forward and backward.
    """
    place = torch.arange(len(rows), device=rows.device)
    expert = torch.bucketize(place, ends, right=True).unsqueeze(1)
    numbers = torch.arange(len(ends), device=rows.device)
    chosen = (expert == numbers).to(rows.dtype)
    ends = ends.int()

    def linear(rows, kernel, bias):
        # A row's bias by a product, since the gradient of an index adds row by row.
        product = torch.nn.functional.grouped_mm(rows, kernel, offs=ends)
        return torch.addmm(product, chosen, bias)

    return mlp(rows, bank.stacked, draws, linear)


def takes_stack(rows, bank):
    """Whether one grouped product serves the rows here; it reads the stacked weights.

    Args:
        rows: (N, D).
        bank: `Bank`, in any dtype.
    """
    return (
        rows.is_cuda
        and rows.dtype == torch.bfloat16
        # grouped_mm wants rows of whole 16 bytes.
        and all(size % 8 == 0 for size in bank.stacked.hidden_kernel.shape[1:])
        and torch.cuda.get_device_capability(rows.device) >= (8, 0)
    )
