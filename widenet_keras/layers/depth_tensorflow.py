"""The depth as one `tf.while_loop`: the graph does not grow with it."""

import tensorflow as tf

from widenet_keras.routing.record import RoutingRecord

_DTYPES = RoutingRecord(
    balance_loss="float32",
    z_loss="float32",
    expert_fraction="float32",
    dropped_fraction="float32",
    experts="int32",
    gates="float32",
)


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
