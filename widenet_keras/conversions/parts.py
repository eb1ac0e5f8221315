"""What a file of any family holds, in our orientation, and what its JSONs tell."""

from typing import NamedTuple

import numpy as np

from widenet_keras.conversions.tensors import Pair


class Block(NamedTuple):
    """One step of the depth; kernels are (inputs, outputs).

    Attributes:
        norm1: Gamma and beta before attention.
        norm2: Gamma and beta before the feed-forward part.
        query: (D, D) and (D).
        key: (D, D) and (D).
        value: (D, D) and (D).
        output: (D, D) and (D), any LayerScale folded in.
        hidden: (D, F) and (F); of a gated part the half that is activated.
        outer: (F, D) and (D), any LayerScale folded in.
        gate: (D, F) and (F) of a gated part, else None.
    """

    norm1: Pair
    norm2: Pair
    query: Pair
    key: Pair
    value: Pair
    output: Pair
    hidden: Pair
    outer: Pair
    gate: Pair | None = None


class Probe(NamedTuple):
    """Attention pooling.

    Attributes:
        query: (D), what attends; a constant of the weights.
        key: (D, D) and (D).
        value: (D, D) and (D).
        output: (D, D) and (D).
        norm: Gamma and beta before its feed-forward part.
        hidden: (D, F) and (F).
        outer: (F, D) and (D).
    """

    query: np.ndarray
    key: Pair
    value: Pair
    output: Pair
    norm: Pair
    hidden: Pair
    outer: Pair


class Parts(NamedTuple):
    """A vision transformer as its tensors give it.

    Attributes:
        patch: (p, p, channels, D) and (D), for the pixels of the source.
        position: (rows, D), with rows for some, all or none of the leading tokens.
        position_name: What messages call the table.
        blocks: Tuple of `Block`.
        norm: The final norm.
        pooling: A pooling of `WideNetConfig`.
        class_token: (D), or None.
        registers: Tuple of (D) in their order, a distillation token first.
        embedding_norm: A norm of all tokens before the first block, or None.
        norm_after_pooling: Whether `norm` comes after the pooling.
        probe: `Probe` of attention pooling, or None.
        representation: (D, D) and (D) of a Dense with tanh, or None.
        logits: (D or 2D, C) and (C), or None.
        heads: Number of heads, where shapes tell it.
    """

    patch: Pair
    position: np.ndarray
    position_name: str
    blocks: tuple[Block, ...]
    norm: Pair
    pooling: str
    class_token: np.ndarray | None = None
    registers: tuple[np.ndarray, ...] = ()
    embedding_norm: Pair | None = None
    norm_after_pooling: bool = False
    probe: Probe | None = None
    representation: Pair | None = None
    logits: Pair | None = None
    heads: int | None = None


class Told(NamedTuple):
    """What companion files, or else the habits of a family, tell.

    Attributes:
        family: What messages call the kind of file.
        activation: Name as `WideNetConfig` has it; None must be asked for.
        norm_epsilon: Epsilon of all norms.
        mean: Per channel, of pixels / 255.
        std: Per channel, of pixels / 255.
        preprocessing: Dict of crop_mode, crop_pct, interpolation and antialias.
        heads: Number of heads, where it is told.
        sizes: Dict of fields that a companion states, which the tensors must have.
        class_names: Tuple of names, or None.
        unknown: Short phrases: what was assumed.
    """

    family: str
    activation: str | None
    norm_epsilon: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    preprocessing: dict
    heads: int | None = None
    sizes: dict = {}  # noqa: RUF012
    class_names: tuple[str, ...] | None = None
    unknown: tuple[str, ...] = ()
