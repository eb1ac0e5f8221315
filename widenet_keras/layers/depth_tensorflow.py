"""The depth as one `tf.while_loop`: the graph does not grow with it."""

import tensorflow as tf

from widenet_keras.utils.trees import leaves, packed

# Rounds that make a loop worth tracing: its turns cost a small model a tenth of
# its time, and only a deep one much time to trace.
SHORTEST = 4


def compiled(function, tokens):
    """Returns the function: here it runs, or is traced, as it is called."""
    return function


def remat(function, tokens, private, weights):
    """Returns `function` of its arguments, computed again for the gradients.

    `tf.recompute_grad` gives gradients to tensors that are arguments, one by one,
    and fails inside a loop where the function returns integers; so integers go around.

    Args:
        function: Of tokens and two trees of tensors, to tokens and a tree of outputs.
        tokens: (B, T, D).
        private: Tree of tensors.
        weights: Tree of tensors.
    """
    inputs, around = (tokens, private, weights), []

    def floats(*values):
        tokens, outputs = function(*packed(inputs, values))
        around[:] = [outputs]
        return tokens, *(leaf for leaf in leaves(outputs) if leaf.dtype.is_floating)

    tokens, *found = tf.recompute_grad(floats)(*leaves(inputs))
    [outputs], found = around, iter(found)
    values = [
        next(found) if leaf.dtype.is_floating else leaf for leaf in leaves(outputs)
    ]
    return tokens, packed(outputs, values)


def is_traced(tokens):
    """Whether the call builds a graph; if not, a loop has nothing to shorten."""
    return not tf.executing_eagerly()


def unrolls(steps, remat):
    """Whether "auto" takes the steps of a depth one by one; here it never does."""
    return False


def loop(one_round, tokens, private, weights, rounds, outputs):
    """Returns the tokens and the outputs of all rounds, (rounds, ...).

    Args:
        one_round: Function of tokens, what is private to one round and the weights that
            all rounds read; returns tokens and a tree of outputs.
        tokens: (B, T, D).
        private: Tree of arrays (rounds, ...).
        weights: Tree of arrays.
        rounds: How many.
        outputs: Tree of `keras.KerasTensor`s like the outputs of a round.
    """
    # Reading from arrays of tensors gives gradients without scatters.
    of_steps = [
        tf.TensorArray(leaf.dtype, size=rounds).unstack(leaf)
        for leaf in leaves(private)
    ]
    shape = tokens.shape

    def body(index, tokens, arrays):
        mine = packed(private, [array.read(index) for array in of_steps])
        tokens, made = one_round(tokens, mine, weights)
        arrays = [
            array.write(index, leaf)
            for array, leaf in zip(arrays, leaves(made), strict=True)
        ]
        return index + 1, tf.ensure_shape(tokens, shape), arrays

    arrays = [tf.TensorArray(leaf.dtype, size=rounds) for leaf in leaves(outputs)]
    _, tokens, arrays = tf.while_loop(
        lambda index, tokens, arrays: index < rounds,
        body,
        (tf.constant(0), tokens, arrays),
        maximum_iterations=rounds,
    )
    return tokens, packed(outputs, [array.stack() for array in arrays])
