"""The depth as one `jax.lax.scan`: compile time does not grow with it."""

import functools

import jax

SHORTEST = 2  # rounds that make a loop worth compiling
# Steps that "auto" takes one by one on GPUs. What a loop keeps for its gradients is
# copied into stacks and out of them again, most of what a training step moves; a deep
# model takes long to compile and keeps more of it.
MOST_UNROLLED = 12


@functools.cache
def _jitted(function):
    return jax.jit(function, static_argnums=3)


def compiled(function, tokens):
    """Returns a function of tensors and a static last argument, compiled if need be.

    Called outside of any compilation, JAX would compile the operations of a model one
    by one, which takes longer than all of them together; like this, models of one
    description share a program. Switches of Keras that a trace reads, such as that of
    flash attention, are those of the first call.

    Args:
        function: Of tokens, two trees of tensors and something hashable.
        tokens: What it will be called with.
    """
    return function if is_traced(tokens) else _jitted(function)


def remat(function, tokens, private, weights):
    """Returns `function` of its arguments, computed again for the gradients."""
    return jax.checkpoint(function)(tokens, private, weights)


def is_traced(tokens):
    """Whether the call is being compiled; if not, a loop would only cost a compile."""
    return isinstance(tokens, jax.core.Tracer)


def unrolls(steps, remat, platform=None):
    """Whether "auto" takes the steps of a depth one by one.

    Args:
        steps: L.
        remat: Whether memory is short, so that activations are computed again.
        platform: "cpu", "gpu" or "tpu"; None for that of this process.
    """
    on_gpu = (platform or jax.default_backend()) == "gpu"
    return on_gpu and not remat and steps <= MOST_UNROLLED


def loop(one_round, tokens, private, weights, rounds, outputs):
    """Returns the tokens and the outputs of all rounds, (rounds, ...).

    Args:
        one_round: Function of tokens, what is private to one round and the weights that
            all rounds read; returns tokens and a tree of outputs.
        tokens: (B, T, D).
        private: Tree of arrays (rounds, ...).
        weights: Tree of arrays.
        rounds: How many.
        outputs: Not used: a scan finds out what a round returns.
    """

    def body(tokens, private):
        return one_round(tokens, private, weights)

    return jax.lax.scan(body, tokens, private, length=rounds)
