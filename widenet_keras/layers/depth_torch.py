"""The depth on torch, which compiles no loop: its steps run as they are called."""

import torch

SHORTEST, loop = 2, None


def is_traced(tokens):
    """Whether the call is being compiled; this backend runs as it is called."""
    return False


def compiled(function, tokens):
    """Returns the function: here it runs, or is traced, as it is called."""
    return function


def remat(function, tokens, private, weights):
    """Returns `function` of its arguments, computed again for the gradients."""
    return torch.utils.checkpoint.checkpoint(
        function, tokens, private, weights, use_reentrant=False
    )


def in_programs(tokens, private, weights, plans, depth):
    """Returns what `in_programs` of `compiled_torch` does, whose import is slow."""
    from widenet_keras.layers import compiled_torch

    return compiled_torch.in_programs(tokens, private, weights, plans, depth, remat)
