"""The reference engine: every expert computes every token, the gates choose."""

from keras import ops

from widenet_keras.routing.engines.engine import Engine


class AllExperts(Engine):
    """Costs E/K times the experts that are used, and works everywhere.

    Static shapes and no indices: it runs under any compiler and in any export.
    """

    def dispatch(self, tokens):
        """Returns the tokens as rows that all experts share, (1, G * N, D)."""
        return ops.expand_dims(tokens, 0)

    def combine(self, outputs):
        """Returns the sum over the experts with their gates, (G * N, D)."""
        weight = ops.expand_dims(self.demand.gates * self.kept, -1)
        gates = ops.sum(self.demand.mask * weight, axis=1)  # (G, N, E)
        gates = ops.reshape(gates, (-1, gates.shape[-1], 1))
        gates = ops.cast(ops.transpose(gates, (1, 0, 2)), outputs.dtype)  # (E, GN, 1)
        return ops.sum(outputs * gates, axis=0)
