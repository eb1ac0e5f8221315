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
    return run_to_ends(mlp, rows, ends, bank, draws, grouped)


def run_to_ends(mlp, rows, ends, bank, draws, grouped=None):
    """The same, for runs given by their ends.

    Args:
        mlp: `Mlp`.
        rows: (N, D), sorted by expert.
        ends: (E,) int, the row behind the run of each expert.
        bank: `Bank` in the dtype of the rows.
        draws: `RandomDraws`.
        grouped: As for `run_by_expert`.
    """
    if takes_stack(rows, bank) if grouped is None else grouped:
        return _grouped(mlp, rows, ends.int(), bank.stacked, draws)
    ends = ends.tolist()
    sizes = [end - start for start, end in zip([0, *ends], ends, strict=False)]
    unserved = len(rows) - ends[-1]
    *runs, behind = torch.split_with_sizes(rows, [*sizes, unserved])
    outputs = [mlp(*each, draws) for each in zip(runs, bank.each, strict=True)]
    return torch.cat([*outputs, torch.zeros_like(behind)] if unserved else outputs)


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


def _grouped(mlp, rows, ends, weights, draws):
    place = torch.arange(len(rows), device=rows.device)
    expert = torch.bucketize(place, ends, right=True)
    served = (expert < len(ends)).unsqueeze(1)
    # Unserved rows borrow the last bias, and lose it at the end.
    expert = torch.clamp(expert, max=len(ends) - 1)

    def linear(rows, kernel, bias):
        # Behind the last run grouped_mm writes nothing, forward or backward.
        rows = torch.where(served, rows, torch.zeros_like(rows))
        product = torch.nn.functional.grouped_mm(rows, kernel, offs=ends)
        return torch.where(served, product, torch.zeros_like(product)) + bias

    output = mlp(rows, weights.of_rows(expert), draws, linear)
    return torch.where(served, output, torch.zeros_like(output))
