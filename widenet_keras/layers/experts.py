"""A bank of experts: E MLPs with stacked weights.

Experts know nothing about routing: they turn rows into rows.
"""

from typing import Any

import keras
from keras import ops

from widenet_keras.layers.expert_runs import run_by_expert
from widenet_keras.layers.feed_forward import FeedForwardBase, bias_initializer
from widenet_keras.layers.int8_weights import (
    check_quantized_by_the_model,
    stored_in_int8,
)
from widenet_keras.layers.mlp import Bank, ExpertWeights
from widenet_keras.routing.random_draws import SILENT, RandomDraws
from widenet_keras.utils import numerics
from widenet_keras.utils.checks import check_integer
from widenet_keras.utils.roles import Role, weight_with_role
from widenet_keras.utils.types import Read, Shape, Tensor

ROLE = Role("core", "experts", stacked="experts")


def experts(rows, sizes, bank, mlp, draws):
    """Returns what the experts make of their rows.

    Args:
        rows: (E, N, D), block e for expert e; (1, N, D), the same rows for every
            expert; with `sizes`, (N, D) sorted by expert; or a list of E tensors
            (R, D).
        sizes: (E,) int32, how many rows each expert has, one run after the other, or
            None. Rows behind the last run come out as zeros.
        bank: `Bank`, with `each` for a list and, but on JAX, with `sizes`.
        mlp: `Mlp`.
        draws: `RandomDraws`.

    Returns:
        (E, N, D), (N, D) with `sizes`, or a list for a list.
    """
    if isinstance(rows, list):
        return [
            mlp(mine, own.cast(mine.dtype), draws)
            for mine, own in zip(rows, bank.each, strict=True)
        ]
    stacked = bank.stacked and bank.stacked.cast(rows.dtype)
    if sizes is None:
        return mlp(rows, stacked.stacked(), draws)
    each = tuple(own.cast(rows.dtype) for own in bank.each)
    return run_by_expert(mlp, rows, sizes, Bank(stacked, each), draws)


@keras.saving.register_keras_serializable("widenet_keras")
class Experts(FeedForwardBase):
    """A bank of E MLPs whose weights are stacked along a leading expert axis.

    Args:
        num_experts: E.
        hidden_dim: F, width of each expert.
        **kwargs: `activation`, `output_activation` and `dropout`, as for `FeedForward`,
            and what `keras.layers.Layer` takes.
    """

    def __init__(self, num_experts: int, hidden_dim: int, **kwargs: Any):
        super().__init__(hidden_dim, **kwargs)
        check_integer("Experts", "num_experts", num_experts, 1)
        self.num_experts = num_experts
        self._is_quantized = False

    def build(self, rows_shape: Shape) -> None:
        """Makes the stacked weights for rows (E, N, D), (N, D) or a list of (R, D)."""
        width = rows_shape[-1]
        if not isinstance(width, int):
            width = width[-1]
        # Keras counts the leading axis of a 3-D kernel into its fans, which
        # would start every expert too small; these are the fans of one expert.
        limit = (6.0 / (width + self.hidden_dim)) ** 0.5

        def kernel(name, *shape):
            return weight_with_role(
                self,
                ROLE,
                name=name,
                shape=(self.num_experts, *shape),
                initializer=keras.initializers.RandomUniform(-limit, limit),
            )

        def bias(name, size):
            return weight_with_role(
                self,
                ROLE._replace(decayed=False),
                name=name,
                shape=(self.num_experts, size),
                initializer=bias_initializer(),
            )

        self.hidden_kernel = kernel("hidden_kernel", width, self.hidden_dim)
        self.hidden_bias = bias("hidden_bias", self.hidden_dim)
        self.outer_kernel = kernel("outer_kernel", self.hidden_dim, width)
        self.outer_bias = bias("outer_bias", width)

    def call(
        self,
        rows: Tensor | list[Tensor],
        sizes: Tensor = None,
        draws: RandomDraws = SILENT,
    ) -> Tensor | list[Tensor]:
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
        with numerics.weights_as_stored() as read:
            weights = self.read(read)
            each = () if sizes is None else weights.unstacked()
            if isinstance(rows, list):
                each = weights.unstacked()
                rows = [ops.cast(mine, self.compute_dtype) for mine in rows]
            else:
                rows = ops.cast(rows, self.compute_dtype)
            return experts(rows, sizes, Bank(weights, each), self.mlp, draws)

    def read(self, read: Read) -> ExpertWeights:
        """Returns the stacked `ExpertWeights`.

        Args:
            read: Function from a Keras variable to its tensor.
        """

        def stored(name):
            value = read(getattr(self, name))
            if not self._is_quantized:
                return value
            # An int8 kernel takes the dtype of the products, and so all else does.
            return numerics.cast(value, self.compute_dtype)

        def kernel(name):
            value = stored(f"{name}_kernel")
            return value * stored(f"{name}_scale") if self._is_quantized else value

        return ExpertWeights(
            kernel("hidden"),
            stored("hidden_bias"),
            kernel("outer"),
            stored("outer_bias"),
        )

    def quantize(self, mode: str, type_check: bool = True, config: Any = None) -> None:
        """Stores the kernels as int8 with a scale per expert and output channel.

        `WideNet.quantize` calls it. Products are computed in the layer's dtype.

        Args:
            mode: "int8".
            type_check: Not used; for Keras.
            config: Not used; for Keras.

        Raises:
            NotImplementedError: If the mode is another one, or no model of ours asks.
        """
        check_quantized_by_the_model(self)
        if mode != "int8":
            raise NotImplementedError(f"Experts: mode={mode!r}; use 'int8'.")
        for name in ("hidden", "outer"):
            float_kernel = getattr(self, f"{name}_kernel")
            kernel, scale = stored_in_int8(self, float_kernel, 1, f"{name}_scale")
            setattr(self, f"{name}_kernel", kernel)
            setattr(self, f"{name}_scale", scale)
        self._is_quantized = True

    def compute_output_shape(self, rows_shape: Shape, **kwargs: Any) -> Shape:
        """Returns (E, N, D), (N, D) for rows sorted by expert, or a list for a list."""
        if len(rows_shape) == 2 or not isinstance(rows_shape[-1], int):
            return rows_shape
        return (self.num_experts, *rows_shape[1:])

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "num_experts": self.num_experts}
