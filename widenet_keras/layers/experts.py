"""Feed-forward parts: one dense MLP, or a bank of E of them with stacked weights.

Experts know nothing about routing: they turn rows into rows.
"""

import keras
import numpy as np
from keras import ops

from widenet_keras.layers.activations import activation_named
from widenet_keras.layers.expert_runs import run_by_expert
from widenet_keras.layers.mlp import ExpertWeights, Mlp
from widenet_keras.routing.random_draws import SILENT
from widenet_keras.utils.checks import check_integer, check_number
from widenet_keras.utils.execution import once

# Biases start at almost zero, as in the authors' network.
BIAS_INITIALIZER = {
    "class_name": "RandomNormal",
    "config": {"mean": 0.0, "stddev": 1e-6},
}


def bias_initializer():
    """Returns a fresh initializer, so that no two biases share its seed."""
    return keras.initializers.get(BIAS_INITIALIZER)


class _FeedForward(keras.layers.Layer):
    """What the dense MLP and the bank of experts have in common."""

    def __init__(
        self,
        hidden_dim,
        activation="gelu_tanh",
        output_activation=None,
        dropout=0.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        owner = type(self).__name__
        check_integer(owner, "hidden_dim", hidden_dim, 1)
        check_number(owner, "dropout", dropout, 0.0, below=1.0)
        self.hidden_dim = hidden_dim
        self.activation = activation
        self.output_activation = output_activation
        self.dropout = dropout
        self._activate = activation_named(owner, "activation", activation)
        self._activate_output = activation_named(
            owner, "output_activation", output_activation
        )

    def get_config(self):
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "hidden_dim": self.hidden_dim,
            "activation": self.activation,
            "output_activation": self.output_activation,
            "dropout": self.dropout,
        }


@keras.saving.register_keras_serializable("widenet_keras")
class FeedForward(_FeedForward):
    """One dense MLP: D -> F -> D, the same for every token.

    Args:
        hidden_dim: F.
        activation: Name of the activation of the hidden layer.
        output_activation: Name of an activation of the output, or None. The
            authors' network has "gelu_tanh" here; the paper has none.
        dropout: Dropout rate of the hidden layer in training.
        **kwargs: Passed to `keras.layers.Layer`.

    Raises:
        ValueError: If an argument is out of range; the line says what is allowed.
    """

    def build(self, tokens_shape):
        """Makes the two dense layers for tokens of shape (B, T, D)."""
        self.hidden = keras.layers.Dense(
            self.hidden_dim,
            bias_initializer=bias_initializer(),
            dtype=self.dtype_policy,
            name="hidden",
        )
        self.hidden.build(tokens_shape)
        self.outer = keras.layers.Dense(
            tokens_shape[-1],
            bias_initializer=bias_initializer(),
            dtype=self.dtype_policy,
            name="outer",
        )
        self.outer.build((*tokens_shape[:-1], self.hidden_dim))

    def call(self, tokens, draws=SILENT):
        """Returns (B, T, D) for tokens (B, T, D); `draws` as for `Attention`."""
        hidden = self._activate(self.hidden(tokens))
        return self._activate_output(self.outer(draws.dropout(hidden, self.dropout)))

    def compute_output_shape(self, tokens_shape, **kwargs):
        """Returns the shape of the tokens."""
        return tokens_shape


@keras.saving.register_keras_serializable("widenet_keras")
class Experts(_FeedForward):
    """A bank of E MLPs whose weights are stacked along a leading expert axis.

    Args:
        num_experts: E.
        hidden_dim: F, width of each expert.
        activation: As for `FeedForward`.
        output_activation: As for `FeedForward`.
        dropout: As for `FeedForward`.
        **kwargs: Passed to `keras.layers.Layer`.
    """

    def __init__(self, num_experts, hidden_dim, **kwargs):
        super().__init__(hidden_dim, **kwargs)
        check_integer("Experts", "num_experts", num_experts, 1)
        self.num_experts = num_experts
        self._is_quantized = False

    def build(self, rows_shape):
        """Makes the stacked weights for rows of shape (E, N, D)."""
        width = rows_shape[-1]
        # Keras counts the leading axis of a 3-D kernel into its fans, which
        # would start every expert too small; these are the fans of one expert.
        limit = (6.0 / (width + self.hidden_dim)) ** 0.5

        def kernel(name, *shape):
            return self.add_weight(
                name=name,
                shape=(self.num_experts, *shape),
                initializer=keras.initializers.RandomUniform(-limit, limit),
            )

        def bias(name, size):
            return self.add_weight(
                name=name,
                shape=(self.num_experts, size),
                initializer=bias_initializer(),
            )

        self.hidden_kernel = kernel("hidden_kernel", width, self.hidden_dim)
        self.hidden_bias = bias("hidden_bias", self.hidden_dim)
        self.outer_kernel = kernel("outer_kernel", self.hidden_dim, width)
        self.outer_bias = bias("outer_bias", width)

    def call(self, rows, sizes=None, draws=SILENT):
        """Applies expert e to its own rows.

        Args:
            rows: (E, N, D), block e for expert e; (1, N, D), the same rows for
                every expert; with `sizes`, (N, D) sorted by expert; or a list of
                E tensors (R, D).
            sizes: (E,) int32, how many rows each expert has, one run after the
                other. Rows behind the last run come out as zeros.
            draws: `RandomDraws` of the owner; the default drops nothing.

        Returns:
            (E, N, D), (N, D) with `sizes`, or a list for a list.
        """
        mlp = Mlp(self.activation, self.output_activation, self.dropout)
        weights = ExpertWeights(
            self._kernel("hidden"),
            ops.convert_to_tensor(self.hidden_bias),
            self._kernel("outer"),
            ops.convert_to_tensor(self.outer_bias),
        )
        if isinstance(rows, list):
            # Converters fold a part of a weight into a constant; one for every step
            # would be the weights many times over before they are found to be equal.
            each = once(tuple(weights), weights.unstacked)
            return [
                mlp(ops.cast(mine, self.compute_dtype), own, draws)
                for mine, own in zip(rows, each, strict=True)
            ]
        rows = ops.cast(rows, self.compute_dtype)
        if sizes is not None:
            return run_by_expert(mlp, rows, sizes, weights, draws)
        return mlp(rows, weights.stacked(), draws)

    def quantize(self, mode, type_check=True, config=None):
        """Stores the kernels as int8 with a scale per expert and output channel.

        `keras.Model.quantize` calls it. Products are computed in the layer's dtype.

        Args:
            mode: "int8".
            type_check: Not used; for Keras.
            config: Not used; for Keras.

        Raises:
            NotImplementedError: If the mode is another one.
        """
        if mode != "int8":
            raise NotImplementedError(f"Experts: mode={mode!r}; use 'int8'.")
        for name in ("hidden", "outer"):
            kernel = getattr(self, f"{name}_kernel")
            value = ops.convert_to_numpy(kernel).astype("float32")
            scale = np.maximum(np.abs(value).max(axis=1, keepdims=True), 1e-12) / 127
            self._untrack_variable(kernel)
            for part, stored, dtype in (
                ("kernel", np.rint(value / scale), "int8"),
                ("scale", scale, "float32"),
            ):
                weight = self.add_weight(
                    name=f"{name}_{part}",
                    shape=stored.shape,
                    initializer="zeros",
                    dtype=dtype,
                    trainable=False,
                )
                weight.assign(stored.astype(dtype))
                setattr(self, f"{name}_{part}", weight)
        self._is_quantized = True

    def _kernel(self, name):
        """Returns the hidden or outer kernel as a tensor of the layer's dtype."""
        kernel = ops.convert_to_tensor(getattr(self, f"{name}_kernel"))
        if not self._is_quantized:
            return kernel
        kernel = ops.cast(kernel, self.compute_dtype)
        return kernel * ops.cast(getattr(self, f"{name}_scale"), self.compute_dtype)

    def compute_output_shape(self, rows_shape, **kwargs):
        """Returns (E, N, D), or (N, D) for rows sorted by expert."""
        if len(rows_shape) == 2:
            return rows_shape
        return (self.num_experts, *rows_shape[1:])

    def get_config(self):
        """Returns the constructor's arguments."""
        return {**super().get_config(), "num_experts": self.num_experts}
