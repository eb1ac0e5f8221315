"""All steps of the depth, one after the other or as compiled loops."""

import functools
from typing import NamedTuple

import keras

from widenet_keras.layers.block_math import BlockSpec
from widenet_keras.layers.plan import Segment, segments_of
from widenet_keras.layers.step import Outputs, outputs_spec, step
from widenet_keras.utils import numerics
from widenet_keras.utils.execution import shapes_are_static, steps_are_compiled
from widenet_keras.utils.trees import mapped, rows_of

if keras.backend.backend() == "jax":
    from widenet_keras.layers import depth_jax as _backend
elif keras.backend.backend() == "torch":
    from widenet_keras.layers import depth_torch as _backend
else:
    from widenet_keras.layers import depth_tensorflow as _backend

SCANS = ("auto", "always", "never")
REMATS = ("none", "full")


class Depth(NamedTuple):
    """What is static about all steps of a forward pass.

    Attributes:
        plans: `Plan` of every step.
        specs: `BlockSpec` of every unique block.
        parts: Which attention and which feed-forward part every unique block has.
        pieces: The `Piece`s that every step has.
        scan: One of `SCANS`.
        remat: Whether activations are computed again for the gradients.
    """

    plans: tuple
    specs: tuple[BlockSpec, ...]
    parts: tuple[tuple[int, int], ...]
    pieces: tuple
    scan: str
    remat: bool


def through(tokens, private, weights, depth):
    """Returns the tokens after all steps, and their `Outputs`, stacked.

    Args:
        tokens: (B, T, D).
        private: `Private` of all steps, with a leading axis L.
        weights: `BlockWeights` of every unique block.
        depth: `Depth`.
    """
    return _backend.compiled(_through, tokens)(tokens, private, weights, depth)


def _through(tokens, private, weights, depth):
    found, alone, rows = [], [], None
    for segment in _segments(tokens, weights, depth):
        if segment.rounds > 1:
            found += [_stacked_outputs(alone)] if alone else []
            alone = []
            tokens, outputs = _looped(tokens, private, weights, segment, depth)
            found.append(_merged(outputs))
            continue
        if rows is None:
            rows = rows_of(private, len(depth.plans), numerics.rows_of)
        run = _backend.in_programs if steps_are_compiled() else _in_turn
        mine = rows[segment.first : segment.end]
        plans = depth.plans[segment.first : segment.end]
        tokens, outputs = run(tokens, mine, weights, plans, depth)
        alone += outputs
    found += [_stacked_outputs(alone)] if alone else []
    return tokens, _present(found, _joined)


def _segments(tokens, weights, depth):
    """Returns the `Segment`s, of which those of more than one round become loops."""
    whole = (Segment(0, depth.plans, 1),)
    # In a loop XLA needs every shape as a constant, the number of images too.
    static = shapes_are_static() and tokens.shape[0] is None
    if depth.scan == "never" or _backend.loop is None or static:
        return whole
    if depth.scan == "auto" and (
        not _backend.is_traced(tokens)
        or _backend.unrolls(len(depth.plans), depth.remat)
    ):
        return whole
    always = depth.scan == "always"
    segments, least = segments_of(depth.plans), 2 if always else _backend.SHORTEST
    if always and len(segments) == len(depth.plans):
        # No step reads the block of another one, so blocks that are alike are looped
        # over; what differs in their weights is then copied into stacks.
        forms = [mapped(lambda leaf: (leaf.shape, leaf.dtype), w) for w in weights]
        kinds = list(zip(depth.specs, forms, strict=True))
        first = [kinds.index(kind) for kind in kinds]
        alike = (p._replace(block=first[p.block]) for p in depth.plans)
        segments = segments_of(tuple(alike))
    return tuple(
        segment
        if segment.rounds >= least
        else Segment(segment.first, segment.pattern * segment.rounds, 1)
        for segment in segments
    )


def _in_turn(tokens, private, weights, plans, depth):
    """Returns the tokens after some steps, and a list of the `Outputs` of each.

    Args:
        tokens: (B, T, D).
        private: List of the `Private` of each of these steps.
        weights: `BlockWeights` of every unique block.
        plans: `Plan` of each of these steps.
        depth: `Depth`.
    """
    found = []
    for plan, own in zip(plans, private, strict=True):
        tokens, outputs = _step_of(plan, depth)(tokens, own, weights[plan.block])
        found.append(outputs)
    return tokens, found


def _step_of(plan, depth):
    """Returns the function of tokens, private tree and weights of a step."""
    function = functools.partial(
        step,
        spec=depth.specs[plan.block],
        plan=plan,
        pieces=depth.pieces,
    )
    return functools.partial(_backend.remat, function) if depth.remat else function


def _looped(tokens, private, weights, segment, depth):
    """Returns the tokens after a segment, and its `Outputs`, (rounds, r, ...)."""
    pattern = segment.pattern
    functions = [_step_of(plan, depth) for plan in pattern]
    plans = depth.plans[segment.first : segment.end]
    places = [
        _apart([weights[plan.block] for plan in plans[place :: len(pattern)]])
        for place in range(len(pattern))
    ]
    own, shared = zip(*places, strict=True)

    def one_round(tokens, mine, shared):
        (private, own), found = mine, []
        for place, function in enumerate(functions):
            mine = mapped(lambda leaf, place=place: leaf[place], private)
            read = _whole(own[place], shared[place])
            tokens, outputs = function(tokens, mine, read)
            found.append(outputs)
        return tokens, _stacked_outputs(found)

    specs = [outputs_spec(tokens, depth.specs[plan.block], plan) for plan in pattern]
    return _backend.loop(
        one_round,
        tokens,
        (_rounds(private, segment.first, segment.end, len(pattern)), own),
        shared,
        segment.rounds,
        _present(specs, stacked_specs),
    )


def _apart(trees):
    """Returns what differs between trees of tensors, stacked, and what is the same.

    Both are trees of the same form, with `()` for each leaf that the other one has.
    """

    def is_shared(leaves):
        return all(leaf is leaves[0] for leaf in leaves)

    def own(*leaves):
        # What is read of variables of TensorFlow is still one, which cannot be stacked.
        values = (leaf[...] for leaf in leaves)
        return () if is_shared(leaves) else numerics.stacked([*values])

    def shared(*leaves):
        return leaves[0] if is_shared(leaves) else ()

    return mapped(own, *trees), mapped(shared, *trees)


def _whole(own, shared):
    """Returns one tree of two that `_apart` made of one."""
    if not isinstance(own, tuple):
        return own
    if not isinstance(shared, tuple):
        return shared
    parts = [_whole(*pair) for pair in zip(own, shared, strict=True)]
    return type(own)(*parts) if hasattr(own, "_fields") else tuple(parts)


def _rounds(private, first, end, period):
    """Returns the private tree of steps `first` to `end`, (rounds, period, ...)."""
    return mapped(
        lambda leaf: numerics.reshaped(leaf[first:end], (-1, period, *leaf.shape[1:])),
        private,
    )


def _present(outputs, together):
    """Returns one `Outputs` of many, of which some have no facts, or nothing seen.

    Args:
        outputs: List of `Outputs`.
        together: Function of the list of those of a part that are there.
    """
    parts = ([part for part in parts if part] for parts in zip(*outputs, strict=True))
    return Outputs(*(together(part) if part else () for part in parts))


def _stacked_outputs(outputs):
    """Returns one `Outputs` of those of steps, stacked on a new leading axis."""
    return _present(
        outputs, lambda trees: mapped(lambda *x: numerics.stacked(x), *trees)
    )


def _joined(trees):
    """Returns one tree of many like it, concatenated along the leading axis."""
    if len(trees) == 1:
        return trees[0]
    return mapped(lambda *leaves: numerics.concatenated(leaves), *trees)


def stacked_specs(specs):
    """Returns the spec of trees like the first one, stacked on a new leading axis."""
    return mapped(
        lambda spec: keras.KerasTensor((len(specs), *spec.shape), spec.dtype), specs[0]
    )


def _merged(tree):
    """(rounds, r, ...) -> (rounds * r, ...)."""
    return mapped(
        lambda leaf: numerics.reshaped(
            leaf, (leaf.shape[0] * leaf.shape[1], *keras.ops.shape(leaf)[2:])
        ),
        tree,
    )
