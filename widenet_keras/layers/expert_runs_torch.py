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
    if grouped is None:
        grouped = (
            rows.is_cuda
            and rows.dtype == torch.bfloat16
            # grouped_mm wants rows of whole 16 bytes.
            and all(size % 8 == 0 for size in bank.stacked.hidden_kernel.shape[1:])
            and torch.cuda.get_device_capability(rows.device) >= (8, 0)
        )
    if grouped:
        return _grouped(mlp, rows, sizes, bank.stacked, draws)
    sizes = sizes.tolist()
    *runs, unserved = rows.split([*sizes, len(rows) - sum(sizes)])
    outputs = [mlp(run, each, draws) for run, each in zip(runs, bank.each, strict=True)]
    return torch.cat([*outputs, torch.zeros_like(unserved)])


def _grouped(mlp, rows, sizes, weights, draws):
    ends = torch.cumsum(sizes, dim=0, dtype=torch.int32)
    place = torch.arange(len(rows), device=rows.device)
    expert = torch.bucketize(place, ends, right=True)
    served = (expert < len(sizes)).unsqueeze(1)
    # Unserved rows borrow the last bias, and lose it at the end.
    expert = torch.clamp(expert, max=len(sizes) - 1)

    def linear(rows, kernel, bias):
        # Behind the last run grouped_mm writes nothing, forward or backward.
        rows = torch.where(served, rows, torch.zeros_like(rows))
        product = torch.nn.functional.grouped_mm(rows, kernel, offs=ends)
        return torch.where(served, product, torch.zeros_like(product)) + bias

    output = mlp(rows, weights.of_rows(expert), draws, linear)
    return torch.where(served, output, torch.zeros_like(output))
