"""The arithmetic of an MLP as pure functions of rows and weights."""

from typing import NamedTuple

from keras import ops

from widenet_keras.utils import numerics
from widenet_keras.utils.numerics import ACTIVATIONS, linear


class ExpertWeights(NamedTuple):
    """Weights of a bank of experts, or of one of them without the leading E.

    Attributes:
        hidden_kernel: (E, D, F).
        hidden_bias: (E, F).
        outer_kernel: (E, F, D).
        outer_bias: (E, D).
    """

    hidden_kernel: object
    hidden_bias: object
    outer_kernel: object
    outer_bias: object

    def stacked(self):
        """Returns the weights with biases that broadcast over rows (E, N, D)."""
        return self._replace(
            hidden_bias=ops.expand_dims(self.hidden_bias, 1),
            outer_bias=ops.expand_dims(self.outer_bias, 1),
        )

    def unstacked(self):
        """Returns the weights of each expert, a tuple of E."""
        count = self.hidden_bias.shape[0]
        parts = (numerics.rows_of(weight, count) for weight in self)
        return tuple(ExpertWeights(*each) for each in zip(*parts, strict=True))

    def narrowed(self, hidden):
        """Returns the weights of the first `hidden` hidden units of each expert."""
        return ExpertWeights(
            self.hidden_kernel[..., :hidden],
            self.hidden_bias[..., :hidden],
            self.outer_kernel[..., :hidden, :],
            self.outer_bias,
        )

    def masked(self, share):
        """Returns the weights by which only the first hidden units are heard.

        Args:
            share: Which part of them, a scalar tensor.
        """
        rows = ops.expand_dims(self.outer_kernel[0, :, 0], 0)
        mask = ops.expand_dims(numerics.prefix(share, rows), -1)
        return self._replace(outer_kernel=self.outer_kernel * mask)

    def cast(self, dtype):
        """Returns the weights in another dtype."""
        return ExpertWeights(*(numerics.cast(weight, dtype) for weight in self))


class Bank(NamedTuple):
    """The weights of a bank of experts, as they are read for a forward pass.

    Attributes:
        stacked: `ExpertWeights` of all experts, absent where nobody reads it.
        each: Tuple of the `ExpertWeights` of every expert where they compute one by
            one, taken apart once for all steps; else absent.
    """

    stacked: object
    each: tuple = ()


class Mlp(NamedTuple):
    """What an MLP does between its weights. Hashable, so that it can be compiled.

    Attributes:
        activation: Name of the activation of the hidden layer.
        output_activation: Name of the activation of the output, or None.
        dropout: Dropout rate of the hidden layer.
    """

    activation: str
    output_activation: str | None
    dropout: float

    def __call__(self, rows, weights, draws, linear=linear):
        """Returns the output for rows (..., N, D).

        Args:
            rows: (..., N, D).
            weights: `ExpertWeights` whose biases broadcast over the rows.
            draws: `RandomDraws`.
            linear: Function of rows, kernel and bias.
        """
        hidden_kernel, hidden_bias, outer_kernel, outer_bias = weights
        hidden = linear(rows, hidden_kernel, hidden_bias)
        return self.output(hidden, outer_kernel, outer_bias, draws, linear)

    def output(self, hidden, kernel, bias, draws, linear=linear):
        """Returns the output for the hidden layer before its activation."""

        def outer(hidden, kernel, bias):
            return linear(self.activated(hidden, draws), kernel, bias)

        return self.finished(numerics.recomputed(outer)(hidden, kernel, bias))

    def activated(self, hidden, draws, gate=None):
        """Returns the hidden layer as its product gave it, activated and dropped.

        Args:
            hidden: (..., F).
            draws: `RandomDraws`.
            gate: (..., F) that it is multiplied by, or None.
        """
        hidden = ACTIVATIONS[self.activation](hidden)
        hidden = hidden if gate is None else hidden * gate
        return draws.dropout(hidden, self.dropout) if self.dropout else hidden

    def finished(self, output):
        """Returns the output as its product gave it, activated if that is asked for."""
        if self.output_activation is None:
            return output
        return numerics.recomputed(ACTIVATIONS[self.output_activation])(output)
