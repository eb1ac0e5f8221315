"""A router in front of a bank of experts, without state or hidden losses."""

from typing import Any, NamedTuple, Self

import keras
from keras import ops

from widenet_keras.layers.expert_runs import bank_of
from widenet_keras.layers.experts import Experts, experts
from widenet_keras.layers.mlp import Bank, Mlp
from widenet_keras.routing.capacity import check_capacity, demand_of
from widenet_keras.routing.engines import check_engine, engine_named
from widenet_keras.routing.random_draws import SILENT, RandomDraws
from widenet_keras.routing.record import (
    RoutingFacts,
    RoutingRecord,
    facts_spec,
    record_of,
    record_spec,
)
from widenet_keras.routing.router import Router, RouterSpec, choices_of
from widenet_keras.utils import numerics
from widenet_keras.utils.building import build_once
from widenet_keras.utils.checks import check_integer
from widenet_keras.utils.types import Read, Shape, Tensor

if keras.backend.backend() == "torch":
    from widenet_keras.layers import routed_experts_torch as fast
else:
    fast = None


class RoutedSpec(NamedTuple):
    """What is static about a mixture of experts in one forward pass.

    Attributes:
        router: `RouterSpec`.
        mlp: `Mlp` of every expert.
        capacity_factor: C's factor, or None where nothing is dropped.
        images_per_group: Images that share a capacity.
        engine: The class of the dispatch engine.
        hands_out: Whether somebody wants the `RoutingFacts`.
    """

    router: RouterSpec
    mlp: Mlp
    capacity_factor: float | None
    images_per_group: int
    engine: type
    hands_out: bool = True


class RoutedWeights(NamedTuple):
    """The weights of a mixture of experts.

    Attributes:
        router: (D, E) float32.
        bank: `Bank` of the experts.
    """

    router: object
    bank: Bank


def routed_experts(tokens, weights, spec, draws):
    """Returns the mixed tokens, (B, T, D), and the `RoutingFacts`, or `()`.

    Args:
        tokens: (B, T, D).
        weights: `RoutedWeights`.
        spec: `RoutedSpec`.
        draws: `RandomDraws`.
    """
    if fast is not None and fast.serves(spec):
        return fast.routed_experts(tokens, weights, spec, draws)
    choices = choices_of(tokens, weights.router, spec.router, draws)
    demand = demand_of(tokens, choices, spec.capacity_factor, spec.images_per_group)
    engine = spec.engine(demand)

    def compute(rows, sizes):
        return experts(rows, sizes, weights.bank, spec.mlp, draws)

    mixed = ops.reshape(engine.mix(compute), (-1, *tokens.shape[1:]))
    # The last group of images may have been padded.
    mixed = mixed[: ops.shape(tokens)[0]]
    if not spec.hands_out:
        return mixed, ()
    return mixed, RoutingFacts(
        logits=choices.logits,
        probabilities=choices.probabilities,
        experts=ops.swapaxes(choices.experts(), 1, 2),
        gates=ops.swapaxes(choices.gates, 1, 2),
        dropped=() if demand.capacity is None else engine.dropped_fraction(),
    )


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
        router: A `Router`, such as `TopKRouter`; one of your own overrides `choose`.
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
        router: Router,
        experts: Experts,
        capacity_factor: float | None = 1.2,
        images_per_group: int = 1,
        engine: str = "auto",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        check_capacity("RoutedExperts", capacity_factor)
        check_engine("RoutedExperts", engine)
        check_integer("RoutedExperts", "images_per_group", images_per_group, 1)
        if not isinstance(router, Router) or type(router).call is not Router.call:
            raise ValueError(
                f"RoutedExperts: the router is a {type(router).__name__}; give a "
                "Router that overrides its static `choose`, as TopKRouter does."
            )
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

    def build(self, tokens_shape: Shape) -> None:
        """Builds router and experts for tokens of shape (B, T, D)."""
        rows_shape = (self.experts.num_experts, None, tokens_shape[-1])
        build_once(self.router, tokens_shape)
        build_once(self.experts, rows_shape)

    def spec(self, training: bool | None, hands_out: bool = True) -> RoutedSpec:
        """Returns the `RoutedSpec` of a forward pass.

        Args:
            training: Whether the capacity holds.
            hands_out: Whether somebody wants the `RoutingFacts`.
        """
        factor = self.capacity_factor if training else None
        return RoutedSpec(
            self.router.spec,
            self.experts.mlp,
            factor,
            self.images_per_group,
            engine_named(self.engine, factor is not None),
            hands_out,
        )

    def read(self, read: Read, training: bool | None, share: Any = ()) -> RoutedWeights:
        """Returns the `RoutedWeights`.

        Args:
            read: Function from a Keras variable to its tensor.
            training: As for `spec`.
            share: Which part of the hidden units of each expert takes part, a scalar
                tensor; absent for all.
        """
        engine, stacked = self.spec(training).engine, self.experts.read(read)
        if not isinstance(share, tuple):
            stacked = stacked.masked(share)
        return RoutedWeights(read(self.router.kernel), bank_of(stacked, engine))

    def read_stacked(self, read: Read) -> RoutedWeights:
        """Returns the `RoutedWeights` with a `Bank` that is not taken apart.

        Args:
            read: As for `read`.
        """
        return RoutedWeights(read(self.router.kernel), Bank(self.experts.read(read)))

    @property
    def softmaxes(self) -> int:
        """How many softmaxes the probabilities of a token consist of."""
        return self.router.softmaxes(self.router.top_k)

    def call(
        self, tokens: Tensor, draws: RandomDraws = SILENT, training: bool | None = None
    ) -> tuple[Tensor, RoutingRecord]:
        """Returns the mixed tokens (B, T, D) and a `RoutingRecord` of one step.

        Args:
            tokens: (B, T, D).
            draws: `RandomDraws` of the owner; the default draws nothing.
            training: Whether the capacity holds.
        """
        with numerics.weights_as_stored() as read:
            weights = self.read(read, training)
            mixed, facts = routed_experts(tokens, weights, self.spec(training), draws)
        return mixed, record_of(facts, self.softmaxes)

    def compute_output_spec(
        self, tokens: Tensor, draws: RandomDraws = SILENT, training: bool | None = None
    ) -> tuple[keras.KerasTensor, RoutingRecord]:
        """Returns the specs of the mixed tokens and of the record."""
        facts = facts_spec(*tokens.shape[:2], self.router.spec, training)
        mixed = keras.KerasTensor(tokens.shape, self.compute_dtype)
        return mixed, record_spec(facts)

    def get_config(self) -> dict[str, Any]:
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
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Rebuilds the layer and its parts."""
        parts = {
            name: keras.saving.deserialize_keras_object(config[name])
            for name in ("router", "experts")
        }
        return cls(**{**config, **parts})
