"""The depth as one `tf.while_loop`: the graph does not grow with it."""

import keras
import tensorflow as tf

from widenet_keras.routing.record import RoutingRecord

# Rounds that make a loop worth tracing: its turns cost a small model a tenth of
# its time, and only a deep one much time to trace.
SHORTEST = 4

_DTYPES = RoutingRecord(
    balance_loss="float32",
    z_loss="float32",
    expert_fraction="float32",
    mean_probability="float32",
    dropped_fraction="float32",
    experts="int32",
    gates="float32",
)


def remat(function, variables):
    """Returns the function with its activations computed again for gradients.

    `tf.recompute_grad` fails inside a loop where the function reads variables
    or returns integers, so variables become arguments and integers go around.

    Args:
        function: Of tensors, to tokens and a `RoutingRecord` or `()`.
        variables: The Keras variables that it reads.
    """

    def wrapped(*inputs):
        experts = []

        def floats(values, *inputs):
            mapping = list(zip(variables, values, strict=True))
            with keras.StatelessScope(state_mapping=mapping):
                tokens, record = function(*inputs)
            if not record:
                return (tokens,)
            experts.append(record.experts)
            return tokens, *record._replace(experts=record.gates)

        # `value` would be rounded under mixed precision, and gradients with it.
        values = [tf.convert_to_tensor(variable._value) for variable in variables]
        tokens, *fields = tf.recompute_grad(floats)(values, *inputs)
        if not experts:
            return tokens, ()
        return tokens, RoutingRecord(*fields)._replace(experts=experts[0])

    return wrapped


def is_traced(tokens):
    """Whether the call builds a graph; if not, a loop has nothing to shorten."""
    return not tf.executing_eagerly()


def loop(one_round, tokens, private, rounds):
    """Returns the tokens and the records of all rounds, (rounds, r, ...).

    Args:
        one_round: As for `depth.repeat`.
        tokens: (B, T, D).
        private: NamedTuple of arrays (rounds, ...), or None.
        rounds: How many.
    """
    # Reading from arrays of tensors gives gradients without scatters.
    pieces = [
        None
        if piece is None
        else tf.TensorArray(piece.dtype, size=rounds).unstack(piece)
        for piece in private
    ]
    shape, is_routed = tokens.shape, []

    def body(index, tokens, arrays):
        mine = [None if piece is None else piece.read(index) for piece in pieces]
        tokens, record = one_round(tokens, type(private)(*mine))
        is_routed[:] = [bool(record)]
        arrays = [
            array.write(index, field)
            for array, field in zip(arrays, record or (), strict=False)
        ] or arrays
        return index + 1, tf.ensure_shape(tokens, shape), arrays

    arrays = [tf.TensorArray(dtype, size=rounds) for dtype in _DTYPES]
    _, tokens, arrays = tf.while_loop(
        lambda index, tokens, arrays: index < rounds,
        body,
        (tf.constant(0), tokens, arrays),
        maximum_iterations=rounds,
    )
    if not is_routed[0]:
        return tokens, ()
    return tokens, RoutingRecord(*(array.stack() for array in arrays))
