"""A router in front of a bank of experts, without state or hidden losses."""

import keras
from keras import ops

from widenet_keras.routing.dispatch import (
    capacity_for,
    combine,
    dispatch,
    plan_places,
)
from widenet_keras.routing.losses import (
    balance_loss,
    expert_fraction,
    router_z_loss,
)
from widenet_keras.routing.random_draws import SILENT
from widenet_keras.routing.record import RoutingRecord
from widenet_keras.utils.building import build_once
from widenet_keras.utils.checks import check_integer, check_number


@keras.saving.register_keras_serializable("widenet_keras")
class RoutedExperts(keras.layers.Layer):
    """Sends tokens to experts and returns their gated sum with a routing record.

    This is the mixture of experts that an encoder shares over its steps: it
    holds weights only and returns everything else. For use in a model of your
    own, `MixtureOfExperts` wraps it.

    In training an expert takes at most C = ceil(capacity_factor * K * T / E)
    tokens of each image, and choices over that are dropped. At inference
    nothing is dropped, so that no prediction depends on its batch mates.

    Args:
        router: A layer that returns `Choices`, such as `TopKRouter`.
        experts: An `Experts` layer with as many experts as the router knows.
        capacity_factor: C's factor in training; None drops nothing.
        images_per_group: How many images share a capacity in training (V-MoE
            uses 8, the paper a device's whole batch). A last, smaller group
            gets the capacity of the images it has.
        **kwargs: Passed to `keras.layers.Layer`.

    Raises:
        ValueError: If an argument is out of range; the line says what is allowed.
    """

    def __init__(
        self, router, experts, capacity_factor=1.2, images_per_group=1, **kwargs
    ):
        super().__init__(**kwargs)
        check_capacity("RoutedExperts", capacity_factor)
        check_integer("RoutedExperts", "images_per_group", images_per_group, 1)
        if router.num_experts != experts.num_experts:
            raise ValueError(
                f"RoutedExperts: the router knows {router.num_experts} experts and "
                f"the bank has {experts.num_experts}; give both the same number."
            )
        self.router = router
        self.experts = experts
        self.capacity_factor = capacity_factor
        self.images_per_group = images_per_group

    def build(self, tokens_shape):
        """Builds router and experts for tokens of shape (B, T, D)."""
        rows_shape = (self.experts.num_experts, None, tokens_shape[-1])
        build_once(self.router, tokens_shape)
        build_once(self.experts, rows_shape)

    def call(self, tokens, draws=SILENT, training=None):
        """Returns the mixed tokens (B, T, D) and a `RoutingRecord` of one step.

        Args:
            tokens: (B, T, D).
            draws: `RandomDraws` of the owner; the default draws nothing.
            training: Whether the capacity holds.
        """
        choices = self.router(tokens, draws=draws)
        if training and self.capacity_factor is not None:
            mixed, dropped = self._mix_with_capacity(tokens, choices, draws)
        else:
            mixed = self._mix_all_experts(tokens, choices, draws)
            dropped = ops.zeros((), dtype="float32")
        fraction = expert_fraction(choices.mask)
        record = RoutingRecord(
            balance_loss=balance_loss(
                choices.probabilities, fraction, self.router.softmaxes
            ),
            z_loss=router_z_loss(choices.logits),
            expert_fraction=fraction,
            dropped_fraction=dropped,
            experts=choices.experts(),
            gates=choices.gates,
        )
        return mixed, record

    def _mix_all_experts(self, tokens, choices, draws):
        """Computes every expert for every token and sums with the gates."""
        width = tokens.shape[-1]
        outputs = self.experts(ops.reshape(tokens, (1, -1, width)), draws=draws)
        gates = ops.sum(choices.mask, axis=1) * choices.probabilities  # (B, T, E)
        gates = ops.reshape(gates, (-1, gates.shape[-1], 1))
        gates = ops.cast(ops.transpose(gates, (1, 0, 2)), outputs.dtype)  # (E, BT, 1)
        mixed = ops.sum(outputs * gates, axis=0)
        return ops.reshape(mixed, (-1, *tokens.shape[1:]))

    def _mix_with_capacity(self, tokens, choices, draws):
        """Computes the places of each expert only; returns (mixed, dropped)."""
        width = tokens.shape[-1]
        experts = self.experts.num_experts
        per_image = tokens.shape[1]
        size = self.images_per_group
        mask, gates = choices.mask, choices.gates
        rows = ops.reshape(tokens, (-1, width))
        limit = None
        if size > 1:
            batch = ops.shape(tokens)[0]
            if isinstance(batch, int):
                size = min(size, batch)
            missing = -batch % size
            rows = ops.pad(rows, ((0, missing * per_image), (0, 0)))
            mask = _grouped(mask, size, missing)
            gates = _grouped(gates, size, missing)
            limit = self._limits(batch, size, per_image)
        capacity = self._capacity(size * per_image)
        places = plan_places(mask, capacity, limit)
        outputs = self.experts(
            ops.reshape(dispatch(rows, places), (experts, -1, width)), draws=draws
        )
        mixed = combine(ops.reshape(outputs, (-1, width)), gates, places)
        mixed = ops.reshape(mixed, (-1, per_image, width))
        if size > 1:
            mixed = mixed[:batch]
        kept = ops.stop_gradient(ops.sum(places.kept) / ops.sum(mask))
        return mixed, 1.0 - kept

    def _capacity(self, tokens):
        """C for `tokens` tokens that share a capacity."""
        return capacity_for(
            tokens, self.experts.num_experts, self.router.top_k, self.capacity_factor
        )

    def _limits(self, batch, size, per_image):
        """Places that each group may use, (G,): by the images that it has."""
        table = [0, *(self._capacity(n * per_image) for n in range(1, size + 1))]
        first = ops.arange(0, batch, size, dtype="int32")
        return ops.take(
            ops.convert_to_tensor(table, dtype="float32"),
            ops.minimum(batch - first, size),
            axis=0,
        )

    def compute_output_spec(self, tokens, draws=SILENT, training=None):
        """Returns the specs of the mixed tokens and of the record."""
        batch, length = tokens.shape[:2]
        choices = (batch, self.router.top_k, length)

        def spec(*shape, dtype="float32"):
            return keras.KerasTensor(shape, dtype=dtype)

        record = RoutingRecord(
            balance_loss=spec(),
            z_loss=spec(),
            expert_fraction=spec(self.experts.num_experts),
            dropped_fraction=spec(),
            experts=spec(*choices, dtype="int32"),
            gates=spec(*choices),
        )
        return spec(*tokens.shape, dtype=self.compute_dtype), record

    def get_config(self):
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "router": keras.saving.serialize_keras_object(self.router),
            "experts": keras.saving.serialize_keras_object(self.experts),
            "capacity_factor": self.capacity_factor,
            "images_per_group": self.images_per_group,
        }

    @classmethod
    def from_config(cls, config):
        """Rebuilds the layer and its parts."""
        parts = {
            name: keras.saving.deserialize_keras_object(config[name])
            for name in ("router", "experts")
        }
        return cls(**{**config, **parts})


def check_capacity(owner, capacity_factor):
    """Raises `ValueError` unless the factor is None or a number > 0."""
    if capacity_factor is not None:
        check_number(owner, "capacity_factor", capacity_factor, 0.0)
        if capacity_factor == 0:
            raise ValueError(
                f"{owner}: capacity_factor=0 leaves no place for any token; use a "
                "number above 0, or None to drop nothing."
            )


def _grouped(choices, size, missing):
    """(B, K, T, ...) -> (G, K, size * T, ...), padded with choices of nothing."""
    rest = choices.shape[3:]
    top_k, tokens = choices.shape[1:3]
    choices = ops.pad(choices, ((0, missing), *((0, 0) for _ in choices.shape[1:])))
    choices = ops.reshape(choices, (-1, size, top_k, tokens, *rest))
    choices = ops.moveaxis(choices, 2, 1)
    return ops.reshape(choices, (-1, top_k, size * tokens, *rest))
