"""What parallel paths compute, as pure functions: sub-layers, norms, a mixture."""

import functools
import itertools
from collections.abc import Sequence
from typing import NamedTuple

from keras import ops

from widenet_keras.layers.attention import attention
from widenet_keras.layers.feed_forward import feed_forward
from widenet_keras.layers.groups import ONE_GROUP, Groups
from widenet_keras.layers.heads import HeadsOfPaths
from widenet_keras.routing.random_draws import RandomDraws
from widenet_keras.utils import numerics


class PathsSpec(NamedTuple):
    """What is static about parallel paths; hashable.

    Attributes:
        paths: `AttentionSpec` or `Mlp` of each path, n of them.
        epsilon: That of the norms.
    """

    paths: tuple
    epsilon: float


class Mixture(NamedTuple):
    """What the answers of n paths are normalised and mixed with.

    Attributes:
        norm_gamma: (n, D).
        norm_beta: (n, D).
        weights: (n,), factors of the paths.
        pairs: (n (n - 1) / 2,), factors of the larger of two paths, (0, 1), (0, 2) to
            (n - 2, n - 1); absent without cheap features.
    """

    norm_gamma: object
    norm_beta: object
    weights: object
    pairs: object = ()


class PathsWeights(NamedTuple):
    """The weights of parallel paths, as they are read for a forward pass.

    Attributes:
        paths: Those of each path, a tuple of n.
        mixture: `Mixture`.
    """

    paths: tuple
    mixture: Mixture


@functools.partial(numerics.recomputed, static=(2,))
def mixed(outputs: Sequence, mixture: Mixture, epsilon: float):
    """Returns sum_i a_i p_i + sum_{i<j} b_ij max(p_i, p_j) with p_i = LN_i(output_i).

    In float32 whatever the dtype of the outputs, which the result has.

    Args:
        outputs: What each of n paths gives, (B, T, D).
        mixture: `Mixture` of a and b, and of the norms.
        epsilon: That of the norms, a constant.
    """
    count = len(outputs)
    norms = (numerics.rows_of(rows, count) for rows in mixture[:2])
    features = [
        numerics.normalized(numerics.cast(output, "float32"), gamma, beta, epsilon)
        for output, gamma, beta in zip(outputs, *norms, strict=True)
    ]
    factors = [*numerics.rows_of(mixture.weights, count)]
    if not isinstance(mixture.pairs, tuple):
        pairs = [*itertools.combinations(features, 2)]
        features += [ops.maximum(*pair) for pair in pairs]
        factors += numerics.rows_of(mixture.pairs, len(pairs))
    found = sum(a * each for a, each in zip(factors, features, strict=True))
    return numerics.cast(found, outputs[0].dtype)


def attention_of_paths(
    tokens,
    weights: PathsWeights,
    spec: PathsSpec,
    draws: RandomDraws,
    groups: Groups = ONE_GROUP,
):
    """Returns the mixture of attentions, (B, T, D), and the `HeadsOfPaths`.

    Args:
        tokens: (B, T, D).
        weights: `PathsWeights` of `AttentionWeights`.
        spec: `PathsSpec` of `AttentionSpec`s.
        draws: `RandomDraws`; paths draw one after the other.
        groups: As for `attention`.
    """
    pairs = zip(weights.paths, spec.paths, strict=True)
    found = [
        attention(tokens, own, static, draws, groups=groups) for own, static in pairs
    ]
    outputs, heads = zip(*found, strict=True)
    return mixed(outputs, weights.mixture, spec.epsilon), HeadsOfPaths(heads)


def feed_forward_of_paths(
    tokens, weights: PathsWeights, spec: PathsSpec, draws: RandomDraws, share=()
):
    """Returns the mixture of MLPs of tokens, (B, T, D).

    Args:
        tokens: (B, T, D).
        weights: `PathsWeights` of tuples of `Product`s.
        spec: `PathsSpec` of `Mlp`s.
        draws: As for `attention_of_paths`.
        share: Which part of the hidden units of each path takes part, as for `block`.
    """
    pairs = zip(weights.paths, spec.paths, strict=True)
    outputs = [feed_forward(tokens, own, mlp, draws, share=share) for own, mlp in pairs]
    return mixed(tuple(outputs), weights.mixture, spec.epsilon)
