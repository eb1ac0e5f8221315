"""The mixture of experts on torch where choices are sorted by expert.

The same numbers as the engine "sorted" in a third of its operations, since on torch
each of them costs its Python: choices stand token by token, so the token of a row is a
division away and a token's results are summed by one product; the runs' ends are found
by bisection.
"""

import torch

from widenet_keras.layers.expert_runs_torch import run_to_ends, takes_stack
from widenet_keras.layers.mlp import Bank
from widenet_keras.routing.capacity import capacity_for
from widenet_keras.routing.engines.sorted import Sorted
from widenet_keras.routing.record import RoutingFacts
from widenet_keras.routing.router import GroupedTop1Router, TopKRouter


def serves(spec):
    """Whether a mixture is one that this file computes."""
    return (
        spec.engine is Sorted
        and spec.router.router in (TopKRouter, GroupedTop1Router)
        and (spec.capacity_factor is None or spec.images_per_group == 1)
    )


def routed_experts(tokens, weights, spec, draws):
    """Returns the mixed tokens and the `RoutingFacts`; as `routed_experts` does."""
    router, (batch, length, width) = spec.router, tokens.shape
    rows = tokens.reshape(-1, width)
    logits = torch.mm(rows.float(), weights.router)
    noisy = logits
    if not draws.silent and router.noise:
        noisy = draws.add_normal(
            logits.view(batch, length, -1), router.noise / router.num_experts
        ).view(logits.shape)
    probabilities, chosen = _chosen(noisy, router)
    gates = probabilities.gather(-1, chosen)  # (BT, K)
    kept, dropped = None, ()
    expert_of_choice = chosen
    if spec.capacity_factor is not None:
        capacity = capacity_for(
            length, router.num_experts, router.top_k, spec.capacity_factor
        )
        kept = _kept(chosen, capacity, batch, router)
        dropped = 1.0 - kept.mean(dtype=torch.float32)
        # Behind the last run nothing is computed.
        expert_of_choice = torch.where(kept, chosen, router.num_experts)
    sorted_experts, order = expert_of_choice.reshape(-1).sort(stable=True)
    places = torch.arange(len(order), device=order.device)
    row_of_choice = torch.empty_like(order).scatter_(0, order, places)
    token_of_row, top_k = order // router.top_k, router.top_k
    learning = torch.is_grad_enabled()
    if learning:
        mine = _Dispatch.apply(rows, token_of_row, row_of_choice, top_k)
    else:
        mine = rows.index_select(0, token_of_row)
    numbers = torch.arange(router.num_experts, device=order.device)
    ends = torch.searchsorted(sorted_experts, numbers, right=True)
    grouped = takes_stack(rows, weights.bank)
    bank = _in_dtype(weights.bank, rows.dtype, grouped)
    outputs = run_to_ends(spec.mlp, mine, ends, bank, draws, grouped)
    if learning:
        each = _Permuted.apply(outputs, row_of_choice, order)
    else:
        each = outputs.index_select(0, row_of_choice)
    weight = gates if kept is None else gates * kept
    weight = weight.to(each.dtype).unsqueeze(1)
    mixed = torch.bmm(weight, each.view(-1, top_k, width)).view(tokens.shape)
    if not spec.hands_out:
        return mixed, ()
    facts = RoutingFacts(
        *(
            fact.view(batch, length, fact.shape[-1])
            for fact in (logits, probabilities, chosen, gates)
        ),
        dropped,
    )
    return mixed, facts


def _chosen(logits, router):
    """Returns the probabilities (BT, E) and the chosen experts (BT, K)."""
    experts, top_k = router.num_experts, router.top_k
    if router.router is GroupedTop1Router:
        grouped = logits.view(-1, top_k, experts // top_k).softmax(-1)
        first = torch.arange(0, experts, experts // top_k, device=logits.device)
        # Of equal ones the lower index leads; `argmax` promises no order.
        chosen = grouped.detach().sort(dim=-1, descending=True, stable=True)[1][..., 0]
        return grouped.view(-1, experts), chosen + first
    probabilities = logits.softmax(-1)
    order = probabilities.detach().sort(dim=-1, descending=True, stable=True)[1]
    return probabilities, order[:, :top_k]


def _kept(chosen, capacity, batch, router):
    """Returns which choices find a place, (BT, K) bool.

    All first choices of an image queue before any second choice.
    """
    numbers = torch.arange(router.num_experts, device=chosen.device)
    queue = chosen.view(batch, -1, router.top_k).transpose(1, 2).reshape(batch, -1, 1)
    ahead = (queue == numbers).cumsum(1).gather(2, queue)
    kept = (ahead <= capacity).view(batch, router.top_k, -1)
    return kept.transpose(1, 2).reshape(chosen.shape)


def _in_dtype(bank, dtype, grouped):
    """Returns what is read of a `Bank`, in the dtype of the rows."""
    if bank.each[0].hidden_kernel.dtype == dtype:
        return bank
    if grouped:
        return Bank(bank.stacked.cast(dtype))
    return Bank((), tuple(own.cast(dtype) for own in bank.each))


class _Dispatch(torch.autograd.Function):
    """rows[token_of_row], whose gradient gathers by the inverse map and sums."""

    @staticmethod
    def forward(ctx, rows, token_of_row, row_of_choice, top_k):
        ctx.save_for_backward(row_of_choice)
        ctx.top_k = top_k
        return rows.index_select(0, token_of_row)

    @staticmethod
    def backward(ctx, upstream):
        each = upstream.index_select(0, ctx.saved_tensors[0])
        each = each.view(-1, ctx.top_k, upstream.shape[1]).sum(1)
        return each, None, None, None


class _Permuted(torch.autograd.Function):
    """rows[there], whose gradient is upstream[back]."""

    @staticmethod
    def forward(ctx, rows, there, back):
        ctx.save_for_backward(back)
        return rows.index_select(0, there)

    @staticmethod
    def backward(ctx, upstream):
        return upstream.index_select(0, ctx.saved_tensors[0]), None, None
