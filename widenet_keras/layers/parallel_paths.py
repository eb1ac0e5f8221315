"""A layer of parallel paths: several sub-layers read the same tokens."""

from collections.abc import Sequence
from typing import Any, Self

import keras

from widenet_keras.layers.attention import Attention
from widenet_keras.layers.feed_forward import FeedForward
from widenet_keras.layers.normalization import EPSILON
from widenet_keras.layers.paths_math import (
    Mixture,
    PathsSpec,
    PathsWeights,
    attention_of_paths,
    feed_forward_of_paths,
)
from widenet_keras.layers.pieces.piece import Piece
from widenet_keras.routing.random_draws import SILENT, RandomDraws
from widenet_keras.utils import numerics
from widenet_keras.utils.building import build_once
from widenet_keras.utils.checks import check_choice, check_positive
from widenet_keras.utils.roles import Role, weight_with_role
from widenet_keras.utils.types import Read, Shape, Tensor

CHEAP_FEATURES = ("none", "maximum")
_OWNER = "ParallelPaths"


@keras.saving.register_keras_serializable("widenet_keras")
class ParallelPaths(keras.layers.Layer):
    """Several sub-layers of one kind in parallel, each with a norm, as one sub-layer.

    Path i gives p_i = LN_i(F_i(u)) of the tokens u, and together they give
    sum_i a_i p_i + sum_{i<j} b_ij max(p_i, p_j) with learned numbers a, from 1/n on,
    and b, from 0 on.

    After the abstract of "Multi-Path Transformer is Better" (arXiv 2305.05948), which
    has the norm at the end of each path, learned weights, and cheap features of what
    paths give; no more than that was read. The maximum of two paths and all starts are
    choices of this package, and the paper's rules for selecting features are not
    reproduced. A sum of paths would be no feature: the weights a span it.

    Args:
        layers: n `Attention`s or n `FeedForward`s with the same settings, n >= 2.
        cheap_features: "maximum" adds the larger of every two paths, entry by entry;
            "none" does not.
        norm_epsilon: What the norms add to the variance.
        **kwargs: Passed to `keras.layers.Layer`.

    Raises:
        ValueError: If the layers are not alike, or an argument is out of range.
    """

    def __init__(
        self,
        layers: Sequence[keras.layers.Layer],
        cheap_features: str = "none",
        norm_epsilon: float = EPSILON,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        check_choice(_OWNER, "cheap_features", cheap_features, CHEAP_FEATURES)
        check_positive(_OWNER, "norm_epsilon", norm_epsilon)
        _check_alike(layers)
        self.paths = list(layers)
        self.cheap_features = cheap_features
        self.norm_epsilon = norm_epsilon

    def build(self, tokens_shape: Shape) -> None:
        """Builds the paths and what mixes them for tokens of shape (B, T, D)."""
        for path in self.paths:
            build_once(path, tokens_shape)
        count, width = len(self.paths), tokens_shape[-1]
        of_all = Role("core", self.paths[0].role.part, decayed=False, exact=True)
        of_each = of_all._replace(stacked="paths")

        def weight(name, role, shape, start):
            # What mixes is float32 under every policy.
            how = {"dtype": "float32", "autocast": False}
            return weight_with_role(
                self, role, name=name, shape=shape, initializer=start, **how
            )

        self.norm_gamma = weight("norm_gamma", of_each, (count, width), "ones")
        self.norm_beta = weight("norm_beta", of_each, (count, width), "zeros")
        mean = keras.initializers.Constant(1 / count)
        self.mixture_weights = weight("mixture_weights", of_all, (count,), mean)
        self.mixture_pairs = None
        if self.cheap_features != "none":
            shape = (count * (count - 1) // 2,)
            self.mixture_pairs = weight("mixture_pairs", of_all, shape, "zeros")

    @property
    def spec(self) -> PathsSpec:
        """What is static about it, a `PathsSpec`."""
        return PathsSpec(tuple(path.spec for path in self.paths), self.norm_epsilon)

    def read(self, read: Read) -> PathsWeights:
        """Returns the `PathsWeights`.

        Args:
            read: Function from a Keras variable to its tensor.
        """
        pairs = () if self.mixture_pairs is None else read(self.mixture_pairs)
        own = self.norm_gamma, self.norm_beta, self.mixture_weights
        return PathsWeights(
            tuple(path.read(read) for path in self.paths),
            Mixture(*map(read, own), pairs),
        )

    def call(self, tokens: Tensor, draws: RandomDraws = SILENT) -> Tensor:
        """Returns (B, T, D) for tokens (B, T, D); `draws` as for `Attention`."""
        with numerics.weights_as_stored() as read:
            weights = self.read(read)
            if isinstance(self.paths[0], Attention):
                return attention_of_paths(tokens, weights, self.spec, draws)[0]
            return feed_forward_of_paths(tokens, weights, self.spec, draws)

    def compute_output_shape(self, tokens_shape: Shape, **kwargs: Any) -> Shape:
        """Returns the shape of the tokens."""
        return tokens_shape

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "layers": [
                keras.saving.serialize_keras_object(each) for each in self.paths
            ],
            "cheap_features": self.cheap_features,
            "norm_epsilon": self.norm_epsilon,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Rebuilds the layer and its paths."""
        layers = [keras.saving.deserialize_keras_object(e) for e in config["layers"]]
        return cls(**{**config, "layers": layers})


def _check_alike(layers):
    """Raises `ValueError` unless layers are several of one kind with one setting."""
    if not isinstance(layers, list | tuple) or len(layers) < 2:
        raise ValueError(
            f"{_OWNER}: layers={layers!r:.200} must be a list of two or more; use a "
            "single one by itself."
        )
    for kind in (Attention, FeedForward):
        if all(isinstance(each, kind) for each in layers):
            break
    else:
        names = " and ".join(dict.fromkeys(type(each).__name__ for each in layers))
        raise ValueError(
            f"{_OWNER}: its layers are {names}; give Attention alone, or FeedForward "
            "alone."
        )
    names = [each.name for each in layers]
    if len(set(names)) < len(names):
        raise ValueError(
            f"{_OWNER}: its layers are named {', '.join(names)}; give each path a "
            "layer with a name of its own."
        )
    first, *others = ({**each.get_config(), "name": None} for each in layers)
    for other in others:
        for name, value in first.items():
            if other[name] != value:
                raise ValueError(
                    f"{_OWNER}: its layers have {name}={value!r:.100} and "
                    f"{other[name]!r:.100}; give all the same."
                )


def paths_of(part: keras.layers.Layer) -> dict[str, keras.layers.Layer]:
    """Returns the sub-layers of a part of a block by how their weights' names start.

    Args:
        part: `ParallelPaths`, whose are "path_0/" and so on in a model; or a part that
            has one path, itself, with "".
    """
    if isinstance(part, ParallelPaths):
        return {f"{path.name}/": path for path in part.paths}
    return {"": part}


def check_around(owner: str, pieces: Sequence[Piece], paths: int):
    """Raises `ValueError` for pieces that act inside the parts of blocks with paths.

    Args:
        owner: Name that starts the message.
        pieces: `Piece`s of the steps.
        paths: n.
    """
    inside = [piece.kind for piece in pieces if piece.acts_inside]
    if paths > 1 and inside:
        raise ValueError(
            f"{owner}: pieces has {', '.join(map(repr, inside))}, which acts inside an "
            f"attention or MLP of which paths={paths} has several; leave it out, or "
            "use paths=1."
        )
