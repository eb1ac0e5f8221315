"""The depth as one `jax.lax.scan`: compile time does not grow with it."""

import jax

SHORTEST = 2  # rounds that make a loop worth compiling


def is_traced(tokens):
    """Whether the call is being compiled; if not, a loop would only cost a compile."""
    return isinstance(tokens, jax.core.Tracer)


def loop(one_round, tokens, private, rounds):
    """Returns the tokens and the records of all rounds, (rounds, r, ...).

    Args:
        one_round: As for `depth.repeat`.
        tokens: (B, T, D).
        private: NamedTuple of arrays (rounds, ...), or None.
        rounds: How many.
    """
    return jax.lax.scan(one_round, tokens, private, length=rounds)
