"""The mixture of experts on torch where choices are sorted by expert.

The same numbers as the engine "sorted" in a third of its operations, since on torch
each of them costs its Python: choices stand token by token, so the token of a row is a
division away and a token's results are summed by one product; the runs' ends are found
by bisection.
"""

import torch

from widenet_keras.layers.expert_runs_torch import (
    grouped_runs,
    runs_as_operator,
    runs_in_turn,
    takes_stack,
)
from widenet_keras.layers.mlp import Bank
from widenet_keras.routing.capacity import capacity_for
from widenet_keras.routing.engines.sorted import Sorted
from widenet_keras.routing.record import RoutingFacts
from widenet_keras.routing.router import GroupedTop1Router, TopKRouter

# Fractions are nothing for a compiler; the answer depends on constants only.
_capacity_for = torch.compiler.assume_constant_result(capacity_for)


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
    grouped = takes_stack(rows, weights.bank)
    traced = torch.compiler.is_compiling() or rows.is_meta
    if spec.capacity_factor is None:
        order, ends = _runs(chosen, router.num_experts)
        kept, dropped = None, ()
    else:
        factor = spec.capacity_factor
        capacity = _capacity_for(length, router.num_experts, router.top_k, factor)
        images = chosen.view(batch, length, router.top_k)
        order, ends, kept = _runs_of_images(
            images, router.num_experts, capacity, apart=not (grouped or traced)
        )
        dropped = 1.0 - kept.mean(dtype=torch.float32)
    places = torch.arange(len(order), device=order.device)
    row_of_choice = torch.empty_like(order).scatter_(0, order, places)
    token_of_row, top_k = order // router.top_k, router.top_k
    learning = torch.is_grad_enabled()
    if learning:
        mine = _Dispatch.apply(rows, token_of_row, row_of_choice, top_k)
    else:
        mine = rows.index_select(0, token_of_row)
    bank = _in_dtype(weights.bank, rows.dtype, grouped or traced)
    compute = runs_as_operator if traced and not rows.is_meta else runs_in_turn
    compute = grouped_runs if grouped else compute
    outputs = compute(spec.mlp, mine, ends, bank, draws)
    if learning:
        each = _Permuted.apply(outputs, row_of_choice, order)
    else:
        each = outputs.index_select(0, row_of_choice)
    weight = gates if kept is None else gates * kept.view(gates.shape)
    weight = weight.to(each.dtype).unsqueeze(1)
    mixed = _gated_sum(weight, each.view(-1, top_k, width), grouped)
    mixed = mixed.view(tokens.shape)
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


def _gated_sum(weight, each, by_entry):
    """Returns the sum of a token's results, (BT, D).

    Args:
        weight: (BT, 1, K).
        each: (BT, K, D).
        by_entry: Whether entries are multiplied and summed, which costs a GPU half of
            what a product for every token does; else by one operation.
    """
    if by_entry:
        return (weight.transpose(1, 2) * each).sum(1)
    return torch.bmm(weight, each)


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


def _runs(chosen, experts):
    """Returns order and ends of the runs of choices (BT, K), all of them served."""
    key, order = _as_key(chosen.reshape(-1), experts).sort(stable=True)
    numbers = torch.arange(experts, dtype=key.dtype, device=order.device)
    return order, torch.searchsorted(key, numbers, right=True)


def _runs_of_images(chosen, experts, capacity, apart):
    """Returns order, ends of runs and which choices (B, T, K) find a place.

    All first choices of an image queue before any second choice. Sorted by expert,
    image and place in the queue, a choice finds its place by where those of its expert
    and image start.

    Args:
        chosen: (B, T, K) int.
        experts: E.
        capacity: C, places of an expert for each image.
        apart: Whether choices without a place stand behind the last run; else in the
            run of their expert.

    Returns:
        (BTK,) the choice in each row; (E,) the row behind each run; (BTK,) bool by
        choice.
    """
    batch = len(chosen)
    places = torch.arange(chosen.numel(), device=chosen.device)
    numbers = places.view(chosen.shape).transpose(1, 2).reshape(-1)
    image = places[:batch].view(-1, 1, 1)
    key = (chosen.transpose(1, 2) * batch + image).reshape(-1)
    key, order = _as_key(key, experts * batch).sort(stable=True)
    key, order = key.long(), numbers.index_select(0, order)
    firsts = torch.arange(experts * batch, device=key.device)
    start = torch.searchsorted(key, firsts).index_select(0, key)
    finds = places - start < capacity
    kept = torch.empty_like(finds).scatter_(0, order, finds)
    if apart:
        order = torch.cat([order[finds], order[~finds]])
        key = key[finds]
    behind = torch.arange(1, experts + 1, device=key.device) * batch
    return order, torch.searchsorted(key, behind), kept


def _as_key(numbers, count):
    """Returns integers below `count` as they are sorted fastest.

    A GPU sorts byte by byte, in several kernels for each of eight.
    """
    if not numbers.is_cuda:
        return numbers
    if torch.compiler.is_compiling() and not isinstance(count, int):
        # A comparison with a number of images would be a program for each answer.
        return numbers.int()
    if count > 2**15:
        return numbers
    return numbers.to(torch.uint8 if count <= 2**8 else torch.int16)


def _in_dtype(bank, dtype, stacked):
    """Returns what is read of a `Bank`, in the dtype of the rows."""
    if bank.each[0].hidden_kernel.dtype == dtype:
        return bank
    if stacked:
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
