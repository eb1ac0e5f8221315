"""The mixture of experts as one layer for anybody's Keras model."""

from typing import Any

import keras

from widenet_keras.layers.experts import Experts
from widenet_keras.layers.routed_experts import RoutedExperts
from widenet_keras.routing.random_draws import SILENT, RandomDraws
from widenet_keras.routing.router import ROUTERS
from widenet_keras.utils.building import build_once
from widenet_keras.utils.checks import check_choice, check_flag, check_number
from widenet_keras.utils.types import Shape, Tensor


@keras.saving.register_keras_serializable("widenet_keras")
class MixtureOfExperts(keras.layers.Layer):
    """A routed mixture of experts: (B, T, D) in, (B, T, D) out.

    ```python
    moe = widenet_keras.layers.MixtureOfExperts(num_experts=4, expert_dim=256)
    outputs = moe(tokens, training=True)
    ```

    The layer adds its balance loss to the model by itself. One layer called
    several times in one model adds one loss per call, except on JAX with
    Keras <= 3.15, which keeps the last only: an `Encoder` shares experts
    over depth without that trap, and leaves it to you to add the
    `balance_loss` of its record.

    Args:
        num_experts: E.
        expert_dim: F, hidden width of each expert.
        top_k: K, experts per token.
        capacity_factor: In training each expert takes at most
            ceil(capacity_factor * K * T / E) tokens of an image; None drops
            nothing. At inference nothing is ever dropped.
        images_per_group: How many images share a capacity in training.
        engine: Dispatch engine: "auto", or one of "sorted", "slots", "one_hot",
            "all_experts" and "slots_or_all". All give the same numbers.
        router: "top_k", or "grouped_top_1" (K groups, one winner in each).
        router_noise: Standard deviation of the training noise on the router's
            logits, in units of 1/E.
        activation: Activation of the experts' hidden layer.
        output_activation: Activation of the experts' output, or None.
        dropout: Dropout rate of the experts' hidden layer.
        balance_loss_weight: Weight of the balance loss.
        router_z_loss_weight: Weight of the router z-loss.
        add_losses: Whether the weighted losses are added to the model.
        seed: Seed of noise and dropout.
        **kwargs: Passed to `keras.layers.Layer`.

    Raises:
        ValueError: If an argument is out of range; the line says what is allowed.
    """

    def __init__(
        self,
        num_experts: int,
        expert_dim: int,
        top_k: int = 2,
        capacity_factor: float | None = 1.2,
        images_per_group: int = 1,
        engine: str = "auto",
        router: str = "top_k",
        router_noise: float = 1.0,
        activation: str = "gelu_tanh",
        output_activation: str | None = None,
        dropout: float = 0.0,
        balance_loss_weight: float = 0.01,
        router_z_loss_weight: float = 0.0,
        add_losses: bool = True,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        owner = "MixtureOfExperts"
        check_number(owner, "balance_loss_weight", balance_loss_weight, 0.0)
        check_number(owner, "router_z_loss_weight", router_z_loss_weight, 0.0)
        check_flag(owner, "add_losses", add_losses)
        self.routed_experts = routed_experts(
            num_experts=num_experts,
            expert_dim=expert_dim,
            top_k=top_k,
            capacity_factor=capacity_factor,
            images_per_group=images_per_group,
            engine=engine,
            router=router,
            router_noise=router_noise,
            activation=activation,
            output_activation=output_activation,
            dropout=dropout,
            dtype=self.dtype_policy,
        )
        self.balance_loss_weight = balance_loss_weight
        self.router_z_loss_weight = router_z_loss_weight
        self.add_losses = add_losses
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self._arguments = {
            "num_experts": num_experts,
            "expert_dim": expert_dim,
            "top_k": top_k,
            "capacity_factor": capacity_factor,
            "images_per_group": images_per_group,
            "engine": engine,
            "router": router,
            "router_noise": router_noise,
            "activation": activation,
            "output_activation": output_activation,
            "dropout": dropout,
            "seed": seed,
        }

    def __call__(self, tokens: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Checks the rank of the tokens, then calls the layer as Keras does."""
        # Checked here because Keras wraps what `call` raises in many lines.
        shape = tuple(getattr(tokens, "shape", ()))
        if len(shape) != 3 or shape[-1] is None:
            raise ValueError(
                f"MixtureOfExperts: the tokens have shape {shape} and must be (batch, "
                "tokens, width) of a known width; reshape them, for instance by "
                "keras.ops.reshape(tokens, (batch, -1, width))."
            )
        if shape[1] is None and not isinstance(tokens, keras.KerasTensor):
            raise ValueError(
                f"MixtureOfExperts: the tokens have shape {shape} in a graph of "
                "TensorFlow, which must know how many there are; give "
                "keras.Input((tokens, width)), or pad to one length."
            )
        return super().__call__(tokens, *args, **kwargs)

    def build(self, tokens_shape: Shape) -> None:
        """Builds router and experts for tokens of shape (B, T, D)."""
        build_once(self.routed_experts, tokens_shape)

    def call(self, tokens: Tensor, training: bool | None = None) -> Tensor:
        """Returns the mixed tokens, (B, T, D), and adds the losses in training.

        Args:
            tokens: (B, T, D).
            training: Whether noise, dropout, capacity and losses are on.
        """
        if tokens.shape[0] == 0:
            return tokens
        draws = RandomDraws.begin(self.seed_generator) if training else SILENT
        mixed, record = self.routed_experts(tokens, draws=draws, training=training)
        if training and self.add_losses:
            self.add_loss(
                self.balance_loss_weight * record.balance_loss
                + self.router_z_loss_weight * record.z_loss
            )
        return mixed

    def compute_output_shape(self, tokens_shape: Shape) -> Shape:
        """Returns the shape of the tokens."""
        return tokens_shape

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        now = ("balance_loss_weight", "router_z_loss_weight", "add_losses")
        now = {name: getattr(self, name) for name in now}
        return {**super().get_config(), **self._arguments, **now}


def routed_experts(
    *,
    num_experts,
    expert_dim,
    top_k,
    capacity_factor,
    images_per_group,
    engine,
    router,
    router_noise,
    activation,
    output_activation,
    dropout,
    dtype=None,
    name=None,
):
    """Returns the `RoutedExperts` of these `MixtureOfExperts` arguments."""
    check_choice("MixtureOfExperts", "router", router, tuple(ROUTERS))
    return RoutedExperts(
        ROUTERS[router](num_experts, top_k, router_noise, name="router"),
        Experts(
            num_experts,
            expert_dim,
            activation=activation,
            output_activation=output_activation,
            dropout=dropout,
            dtype=dtype,
            name="experts",
        ),
        capacity_factor=capacity_factor,
        images_per_group=images_per_group,
        engine=engine,
        dtype=dtype,
        name=name,
    )
