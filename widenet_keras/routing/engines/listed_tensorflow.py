"""Each expert lists its tokens: no drop, no waste, and built-in operators of LiteRT."""

import tensorflow as tf

from widenet_keras.routing.engines.engine import Engine, gated_sum


class Listed(Engine):
    """Costs the experts that are used, for graphs that leave TensorFlow.

    "sorted" needs a sort and a split of dynamic sizes, which LiteRT does not have.
    Here each expert finds its tokens by WHERE and takes them by GATHER, and each
    choice finds its result by counting, so that nothing is scattered either. One
    row behind those of each expert is computed and not used, so that none has an
    empty list: TensorFlow's interpreter goes wrong on int8 products without rows,
    and there is nothing to calibrate them on. For inference only: there is no
    capacity.
    """

    one_by_one = True

    def __init__(self, demand):
        super().__init__(demand)
        experts = demand.mask.shape[-1]
        # No token chooses an expert twice, so this is 0 or 1.
        chosen = tf.reshape(tf.reduce_sum(demand.mask, axis=1), (-1, experts))
        last = tf.zeros((1,), tf.int64)
        self.lists = [
            tf.concat([tf.reshape(tf.where(chosen[:, expert] > 0.5), (-1,)), last], 0)
            for expert in range(experts)
        ]
        # Counting in float32 is exact up to 2^24 choices.
        count = tf.cumsum(chosen, axis=0)  # (GN, E)
        total = tf.reduce_sum(chosen, axis=0) + 1.0
        row = count - 1.0 + tf.cumsum(total) - total
        row = tf.reshape(row, (-1, 1, demand.mask.shape[2], experts))
        self.row_of_choice = tf.cast(
            tf.reduce_sum(demand.mask * row, axis=-1), tf.int32
        )

    def dispatch(self, tokens):
        """Returns the tokens of each expert, a list of E tensors (R, D)."""
        return [tf.gather(tokens, mine) for mine in self.lists]

    def combine(self, outputs):
        """Returns the gated sum of each token's choices, (G * N, D)."""
        each = tf.gather(
            tf.concat(outputs, axis=0), tf.reshape(self.row_of_choice, (-1,))
        )
        return gated_sum(each, self.demand.gates, self.kept)
