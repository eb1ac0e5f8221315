"""Routers: from tokens to the experts each of them wants.

A router knows nothing about experts: it returns `Choices`, and others act on it.
"""

from typing import Any, NamedTuple

import keras
from keras import ops

from widenet_keras.routing.random_draws import SILENT, RandomDraws
from widenet_keras.utils import numerics
from widenet_keras.utils.checks import check_groups, check_number, check_top_k
from widenet_keras.utils.numerics import softmax
from widenet_keras.utils.roles import Role, weight_with_role
from widenet_keras.utils.types import Shape, Tensor

ROLE = Role("core", "router", exact=True)


class RouterSpec(NamedTuple):
    """What is static about a router.

    Attributes:
        router: The class, a subclass of `Router`.
        num_experts: E.
        top_k: K.
        noise: Standard deviation of the noise in training, in units of 1/E.
    """

    router: type
    num_experts: int
    top_k: int
    noise: float


class Choices(NamedTuple):
    """What a router decided for every token.

    Attributes:
        logits: (B, T, E) float32, before noise.
        probabilities: (B, T, E) float32, after noise and softmax.
        gates: (B, K, T) float32, probability of each choice, best first or by group.
        mask: (B, K, T, E) float32, one-hot of each choice. K leads so that all
            first choices stand before any second choice.
    """

    logits: object
    probabilities: object
    gates: object
    mask: object

    def experts(self) -> Tensor:
        """Returns the chosen experts, (B, K, T) int32."""
        return expert_of_choice(self.mask)


def expert_of_choice(mask):
    """Returns the index of each chosen expert, (..., ) int32; 0 where none is.

    Args:
        mask: (..., E) one-hot.
    """
    index = ops.arange(mask.shape[-1], dtype="float32")
    return ops.cast(ops.sum(mask * index, axis=-1), "int32")


def first_maximum(values):
    """Returns the one-hot of the largest entry of the last axis.

    Ties go to the lower index on every backend (`argmax` and `top_k` of torch
    promise no order), so that equal weights route alike everywhere.

    Args:
        values: (..., E) float.
    """
    is_maximum = ops.cast(
        ops.equal(values, ops.max(values, axis=-1, keepdims=True)), "float32"
    )
    rank = ops.cumsum(is_maximum, axis=-1)
    return is_maximum * ops.cast(ops.equal(rank, 1.0), "float32")


def choices_of(tokens, kernel, spec, draws):
    """Returns the `Choices` of (B, T, D) tokens, computed in float32.

    Args:
        tokens: (B, T, D).
        kernel: (D, E) float32.
        spec: `RouterSpec`.
        draws: `RandomDraws`.
    """
    logits = numerics.recomputed(_logits)(tokens, kernel)
    noisy = draws.add_normal(logits, spec.noise / spec.num_experts)
    probabilities, mask = spec.router.choose(noisy, spec.top_k)
    gates = ops.sum(mask * ops.expand_dims(probabilities, 1), axis=-1)
    return Choices(logits, probabilities, gates, mask)


def _logits(tokens, kernel):
    return numerics.product_of_float32(numerics.cast(tokens, "float32"), kernel)


class Router(keras.layers.Layer):
    """Base of the routers: a (D, E) kernel without bias, always in float32.

    Args:
        num_experts: E.
        top_k: K, choices of a token.
        noise: Standard deviation, in units of 1/E, of the normal noise added
            to the logits with `draws` (paper: 1; V-MoE calls it `noise_std`).
        dtype: Accepted for Keras' sake; a router computes in float32 whatever
            the policy of its model is, since bfloat16 cannot rank close logits.
        **kwargs: Passed to `keras.layers.Layer`.

    Raises:
        ValueError: If an argument is out of range; the line says what is allowed.
    """

    def __init__(
        self,
        num_experts: int,
        top_k: int = 2,
        noise: float = 1.0,
        dtype: Any = None,
        **kwargs: Any,
    ):
        super().__init__(dtype="float32", **kwargs)
        owner = type(self).__name__
        self.check(owner, top_k, num_experts)
        check_number(owner, "noise", noise, 0.0)
        self.num_experts = num_experts
        self.top_k = top_k
        self.noise = noise
        self.spec = RouterSpec(type(self), num_experts, top_k, noise)

    @staticmethod
    def check(owner: str, top_k: int, num_experts: int) -> None:
        """Raises `ValueError` unless K of E experts can be chosen; `owner` says so."""
        check_top_k(owner, top_k, num_experts)

    @staticmethod
    def softmaxes(top_k: int) -> int:
        """How many softmaxes the probabilities of a token consist of."""
        return 1

    def build(self, tokens_shape: Shape) -> None:
        """Makes the kernel for tokens of shape (B, T, D)."""
        self.kernel = weight_with_role(
            self,
            ROLE,
            name="kernel",
            shape=(tokens_shape[-1], self.num_experts),
            initializer="glorot_uniform",
            # A model's mixed precision would round it while it is read.
            autocast=False,
        )

    def call(self, tokens: Tensor, draws: RandomDraws = SILENT) -> Choices:
        """Returns the `Choices` of (B, T, D) tokens.

        Args:
            tokens: (B, T, D).
            draws: `RandomDraws` of the owner; the default adds no noise.
        """
        with numerics.weights_as_stored() as read:
            return choices_of(tokens, read(self.kernel), self.spec, draws)

    @staticmethod
    def choose(logits: Tensor, top_k: int) -> tuple[Tensor, Tensor]:
        """Returns probabilities (B, T, E) and the mask (B, K, T, E)."""
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "num_experts": self.num_experts,
            "top_k": self.top_k,
            "noise": self.noise,
        }


@keras.saving.register_keras_serializable("widenet_keras")
class TopKRouter(Router):
    """Sends each token to the K experts of highest softmax probability.

    Source: "Go Wider Instead of Deeper", routing; gates are the raw softmax
    values, not renormalised over the K chosen.

    Args:
        num_experts: E.
        top_k: K, choices of a token.
        **kwargs: As for `Router`.
    """

    @staticmethod
    def choose(logits: Tensor, top_k: int) -> tuple[Tensor, Tensor]:
        """Returns probabilities (B, T, E) and the mask (B, K, T, E)."""
        probabilities = softmax(logits)
        left, masks = probabilities, []
        for _ in range(top_k):
            chosen = ops.stop_gradient(first_maximum(left))
            masks.append(chosen)
            # Probabilities are >= 0, so -1 is never the maximum again.
            left = ops.where(chosen > 0, -1.0, left)
        return probabilities, ops.stack(masks, axis=1)


@keras.saving.register_keras_serializable("widenet_keras")
class GroupedTop1Router(Router):
    """Splits the E experts into K groups and picks the best one in each.

    The softmax runs inside each group, so the gates of a token sum to between
    K*K/E and K rather than to at most 1. Source: "M6-T: Exploring Sparse
    Expert Models and Beyond" (expert prototyping, "k top-1").

    Args:
        num_experts: E; group i holds experts i*E/K to (i+1)*E/K - 1.
        top_k: K, the number of groups; must divide E.
        **kwargs: Passed to `Router`.
    """

    @staticmethod
    def check(owner: str, top_k: int, num_experts: int) -> None:
        """Raises `ValueError` unless E split evenly into K; see `Router.check`."""
        check_top_k(owner, top_k, num_experts)
        check_groups(owner, top_k, num_experts)

    @staticmethod
    def softmaxes(top_k: int) -> int:
        """One softmax for each group."""
        return top_k

    @staticmethod
    def choose(logits: Tensor, top_k: int) -> tuple[Tensor, Tensor]:
        """Returns probabilities (B, T, E) and the mask (B, K, T, E)."""
        tokens, experts = logits.shape[1:]
        size = experts // top_k
        grouped = softmax(ops.reshape(logits, (-1, tokens, top_k, size)))
        chosen = ops.stop_gradient(first_maximum(grouped))
        pads = [(i * size, experts - (i + 1) * size) for i in range(top_k)]
        masks = [
            ops.pad(chosen[:, :, i], ((0, 0), (0, 0), pad))
            for i, pad in enumerate(pads)
        ]
        return ops.reshape(grouped, (-1, tokens, experts)), ops.stack(masks, axis=1)


ROUTERS = {"top_k": TopKRouter, "grouped_top_1": GroupedTop1Router}
