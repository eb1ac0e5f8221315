"""From tokens to one vector of features: the final norm, and how tokens are pooled."""

from typing import NamedTuple

from widenet_keras.layers.attention import AttentionSpec, AttentionWeights
from widenet_keras.layers.attention_pooling import (
    AttentionPoolingSpec,
    AttentionPoolingWeights,
    attention_pooled,
)
from widenet_keras.layers.normalization import layer_norm
from widenet_keras.layers.token_attention_pooling import token_attention_pooled
from widenet_keras.utils import numerics
from widenet_keras.utils.checks import check_choice, check_flag

# What a pooling gives, in widths of a token.
POOLINGS = {
    "mean": 1,
    "token": 1,
    "patches": 1,
    "token_and_patches": 2,
    "token_and_register": 2,
    "attention": 1,
    "token_attention": 1,
}
# Those that have weights.
WEIGHED = ("attention", "token_attention")
# Those that are not the same with the norm before and after.
NORMED_AFTER = ("mean", "patches", "attention")


class PoolingSpec(NamedTuple):
    """What is static about pooling.

    Attributes:
        kind: One of `POOLINGS`.
        leading: How many tokens lead the patches.
        norm_after: Whether the norm follows.
        epsilon: That of the norm.
        attention: `AttentionPoolingSpec` of the kind "attention", `AttentionSpec` of
            "token_attention", else absent.
    """

    kind: str
    leading: int
    norm_after: bool
    epsilon: float
    attention: AttentionPoolingSpec | AttentionSpec | tuple = ()


class PoolingWeights(NamedTuple):
    """The weights of the final norm and of pooling.

    Attributes:
        gamma: (D,) of the norm.
        beta: (D,) of the norm.
        attention: `AttentionPoolingWeights` of the kind "attention",
            `AttentionWeights` of "token_attention", else absent.
    """

    gamma: object
    beta: object
    attention: AttentionPoolingWeights | AttentionWeights | tuple


def check_pooling(owner, pooling, norm_after_pooling, representation):
    """Raises `ValueError` unless a head can have these together.

    Args:
        owner: Name that starts the message.
        pooling: One of `POOLINGS`.
        norm_after_pooling: As for `ClassifierHead`.
        representation: As for `ClassifierHead`.
    """
    check_choice(owner, "pooling", pooling, tuple(POOLINGS))
    check_flag(owner, "norm_after_pooling", norm_after_pooling)
    if norm_after_pooling and pooling not in NORMED_AFTER:
        raise ValueError(
            f"{owner}: norm_after_pooling=True is for pooling='mean', 'patches' or "
            f"'attention', not for {pooling!r}; leave it out."
        )
    if representation and POOLINGS[pooling] > 1:
        raise ValueError(
            f"{owner}: representation=True takes features of one width and pooling="
            f"{pooling!r} gives two side by side; use representation=False."
        )


def pooled_features(tokens, weights, spec):
    """Returns tokens (B, T, D) normalised and pooled, (B, D) or (B, 2 D).

    Args:
        tokens: (B, T, D).
        weights: `PoolingWeights`.
        spec: `PoolingSpec`.
    """

    def normal(x):
        return layer_norm(x, weights.gamma, weights.beta, spec.epsilon)

    if spec.norm_after:
        return normal(_pooled(tokens, weights, spec))
    # The norm is each token's own: before it, the first one is all that is needed.
    if spec.kind == "token":
        return normal(tokens[:, 0])
    if spec.kind == "token_and_register":
        return numerics.reshaped(normal(tokens[:, :2]), (-1, 2 * tokens.shape[-1]))
    return _pooled(normal(tokens), weights, spec)


def _pooled(tokens, weights, spec):
    """Returns tokens (B, T, D) pooled, where all of them count."""
    if spec.kind == "mean":
        return numerics.mean(tokens, 1)
    if spec.kind == "token_attention":
        return token_attention_pooled(tokens, weights.attention, spec.attention)
    patches = tokens[:, spec.leading :]
    if spec.kind == "attention":
        return attention_pooled(patches, weights.attention, spec.attention)
    mean = numerics.mean(patches, 1)
    if spec.kind == "patches":
        return mean
    return numerics.concatenated([tokens[:, 0], mean], -1)
