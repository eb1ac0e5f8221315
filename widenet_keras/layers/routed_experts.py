"""A router in front of a bank of experts, without state or hidden losses."""

import keras
from keras import ops

from widenet_keras.routing.capacity import check_capacity, demand_of
from widenet_keras.routing.engines import check_engine, engine_named
from widenet_keras.routing.losses import (
    balance_of,
    expert_fraction,
    mean_probability,
    router_z_loss,
)
from widenet_keras.routing.random_draws import SILENT
from widenet_keras.routing.record import RoutingRecord
from widenet_keras.utils.building import build_once
from widenet_keras.utils.checks import check_integer


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
        engine: Dispatch engine, "auto" or a name of `ENGINES`. All give the same
            numbers; "auto" takes the fastest for the backend and the device.
        **kwargs: Passed to `keras.layers.Layer`.

    Raises:
        ValueError: If an argument is out of range; the line says what is allowed.
    """

    def __init__(
        self,
        router,
        experts,
        capacity_factor=1.2,
        images_per_group=1,
        engine="auto",
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_capacity("RoutedExperts", capacity_factor)
        check_engine("RoutedExperts", engine)
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
        self.engine = engine

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
        demand = demand_of(
            tokens,
            choices,
            self.capacity_factor if training else None,
            self.images_per_group,
        )
        make_engine = engine_named(self.engine, demand.capacity is not None)
        engine = make_engine(demand)
        rows = engine.dispatch(demand.tokens)
        outputs = self.experts(rows, sizes=engine.sizes, draws=draws)
        mixed = ops.reshape(engine.combine(outputs), (-1, *tokens.shape[1:]))
        # The last group of images may have been padded.
        mixed = mixed[: ops.shape(tokens)[0]]
        fraction = expert_fraction(choices.mask)
        probability = mean_probability(choices.probabilities, self.router.softmaxes)
        record = RoutingRecord(
            balance_loss=balance_of(fraction, probability),
            z_loss=router_z_loss(choices.logits),
            expert_fraction=fraction,
            mean_probability=probability,
            dropped_fraction=engine.dropped_fraction(),
            experts=choices.experts(),
            gates=choices.gates,
        )
        return mixed, record

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
            mean_probability=spec(self.experts.num_experts),
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
            "engine": self.engine,
        }

    @classmethod
    def from_config(cls, config):
        """Rebuilds the layer and its parts."""
        parts = {
            name: keras.saving.deserialize_keras_object(config[name])
            for name in ("router", "experts")
        }
        return cls(**{**config, **parts})
