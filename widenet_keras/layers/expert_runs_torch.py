"""Runs of rows on torch: one grouped product on GPUs, else one MLP per run."""

import torch

from widenet_keras.layers.mlp import Bank, ExpertWeights, Mlp
from widenet_keras.routing.random_draws import SILENT, RandomDraws
from widenet_keras.utils.random_torch import Seed

# grouped_mm wants rows of whole 16 bytes, of bfloat16.
_ALIGNED = 8


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
    if rows.is_meta:
        # Keras asks for shapes only.
        return torch.empty_like(rows)
    ends = ends.tolist()
    sizes = [end - start for start, end in zip([0, *ends], ends, strict=False)]
    unserved = len(rows) - ends[-1]
    *runs, behind = torch.split_with_sizes(rows, [*sizes, unserved])
    outputs = [mlp(*each, draws) for each in zip(runs, bank.each, strict=True)]
    return torch.cat([*outputs, torch.zeros_like(behind)] if unserved else outputs)


def runs_as_operator(mlp, rows, ends, bank, draws):
    """The same, opaque to a compiler, for which the sizes of runs must not matter."""
    seed, site = torch.zeros((), dtype=torch.int64), -1
    offset = 0
    if not draws.silent:
        seed, offset, site = draws.seed.start, draws.seed.offset, draws.site
        draws.site += len(ends) if mlp.dropout else 0
    mlp = (mlp.activation, mlp.output_activation or "", mlp.dropout)
    return _in_turn_op(rows, ends, *bank.stacked, seed, offset, site, *mlp)


@torch.library.custom_op("widenet_keras::runs_in_turn", mutates_args=())
def _in_turn_op(
    rows: torch.Tensor,
    ends: torch.Tensor,
    hidden_kernel: torch.Tensor,
    hidden_bias: torch.Tensor,
    outer_kernel: torch.Tensor,
    outer_bias: torch.Tensor,
    seed: torch.Tensor,
    offset: int,
    site: int,
    activation: str,
    output_activation: str,
    dropout: float,
) -> torch.Tensor:
    draws = SILENT
    if site >= 0:
        draws = RandomDraws(Seed(seed, offset).value(), site)
    weights = ExpertWeights(hidden_kernel, hidden_bias, outer_kernel, outer_bias)
    mlp = Mlp(activation, output_activation or None, dropout)
    return runs_in_turn(mlp, rows, ends, Bank(weights, weights.unstacked()), draws)


@torch.library.custom_op("widenet_keras::runs_in_turn_backward", mutates_args=())
def _in_turn_backward_op(
    upstream: torch.Tensor,
    rows: torch.Tensor,
    ends: torch.Tensor,
    hidden_kernel: torch.Tensor,
    hidden_bias: torch.Tensor,
    outer_kernel: torch.Tensor,
    outer_bias: torch.Tensor,
    seed: torch.Tensor,
    offset: int,
    site: int,
    activation: str,
    output_activation: str,
    dropout: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    learned = rows, hidden_kernel, hidden_bias, outer_kernel, outer_bias
    static = offset, site, activation, output_activation, dropout

    def made(rows, *weights):
        return _in_turn_op._init_fn(rows, ends, *weights, seed, *static)

    # Not `autograd.grad`: it sees nothing inside an operator.
    return torch.func.vjp(made, *learned)[1](upstream)


def _keep(ctx, inputs, output):
    ctx.save_for_backward(*inputs[:7])
    ctx.static = inputs[7:]


def _gradient(ctx, upstream):
    made = _in_turn_backward_op(upstream, *ctx.saved_tensors, *ctx.static)
    rows, *weights = made
    return rows, None, *weights, *(None,) * 6


_in_turn_op.register_fake(lambda rows, *_: torch.empty_like(rows))
_in_turn_op.register_autograd(_gradient, setup_context=_keep)
_in_turn_backward_op.register_fake(
    lambda _, rows, ends, *rest: tuple(map(torch.empty_like, (rows, *rest[:4])))
)


def grouped_runs(mlp, rows, ends, bank, draws):
    """The same by one grouped product; every row is of a run, see `runs_in_turn`.

    `grouped_mm` leaves rows behind the last run as memory was, forward and backward.
    """
    ends = ends.int()
    # Biases are a row of the kernels: their gradients are that row's, and no sum.
    one = (torch.arange(_ALIGNED, device=rows.device) == 0).to(rows.dtype)

    def linear(rows, kernel, bias):
        rows = torch.cat([rows, one.expand(len(rows), -1)], 1)
        behind = kernel.new_zeros(len(kernel), _ALIGNED - 1, kernel.shape[2])
        kernel = torch.cat([kernel, bias.unsqueeze(1), behind], 1)
        return _Product.apply(rows, kernel, ends)

    return mlp(rows, bank.stacked, draws, linear)


class _Product(torch.autograd.Function):
    """A grouped product that has no gradients for the ones behind the rows."""

    @staticmethod
    def forward(ctx, rows, kernel, ends):
        ctx.save_for_backward(rows, kernel, ends)
        return torch.nn.functional.grouped_mm(rows, kernel, offs=ends)

    @staticmethod
    def backward(ctx, upstream):
        rows, kernel, ends = ctx.saved_tensors
        read = kernel[:, :-_ALIGNED].transpose(1, 2)
        mine = torch.nn.functional.grouped_mm(upstream, read, offs=ends)
        mine = torch.nn.functional.pad(mine, (0, _ALIGNED))
        kernels = torch.nn.functional.grouped_mm(rows.t(), upstream, offs=ends)
        return mine, kernels, None


def takes_stack(rows, bank):
    """Whether one grouped product serves the rows here; it reads the stacked weights.

    Args:
        rows: (N, D).
        bank: `Bank`, in any dtype.
    """
    return (
        rows.is_cuda
        and rows.dtype == torch.bfloat16
        and all(size % _ALIGNED == 0 for size in bank.stacked.hidden_kernel.shape[1:])
        and torch.cuda.get_device_capability(rows.device) >= (8, 0)
    )
