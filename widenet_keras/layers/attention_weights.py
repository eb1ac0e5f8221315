"""How much tokens look at each other, computed again from what steps hand out."""

from collections.abc import Iterator, Sequence

import keras
import numpy as np

from widenet_keras.layers.attention import probabilities
from widenet_keras.layers.encoder import Encoder
from widenet_keras.layers.groups import Groups
from widenet_keras.layers.heads import with_more
from widenet_keras.layers.normalization import layer_norm
from widenet_keras.layers.pieces.step_pieces import StepPieces
from widenet_keras.layers.step import Seen
from widenet_keras.routing.random_draws import SILENT
from widenet_keras.utils import numerics
from widenet_keras.utils.trees import mapped, rows_of


def attention_weights(
    encoder: Encoder, seen: Seen, steps: Sequence[int]
) -> Iterator[np.ndarray]:
    """Yields how much each token looks at each token, (B, H, T, T) float32 a step.

    A fused kernel never has these numbers, so they are computed once more, in float32
    and as at inference. What goes to keys that are no tokens is left out.

    Args:
        encoder: `Encoder` that was looked at.
        seen: Its `Seen`, (S', B, ...).
        steps: Which steps these are, S' of them, ascending.
    """
    with numerics.weights_as_stored() as read:
        private = encoder.private(read, SILENT, seen.tokens.shape[2])
        rows = rows_of(private, encoder.steps, numerics.rows_of)
        for place, step in enumerate(steps):
            mine = mapped(lambda x, at=place: numerics.cast(x[at], "float32"), seen)
            block, own = encoder.blocks[encoder.block_of_step[step]], rows[step]
            whole = own.weights or block
            part = whole.attention if own.weights else block.read_attention(read)
            pieces = StepPieces.of(encoder.pieces, own.pieces)
            norms = own.norms.gamma1, own.norms.beta1, block.norm_epsilon
            prompts = [
                layer_norm(each, *norms) for each in pieces.prompts(mine.tokens, SILENT)
            ]
            groups = Groups(encoder.groups.counts[step], own.order)
            yield _of_step(mine.heads, part, pieces, prompts, groups)


def _of_step(heads, weights, pieces, prompts, groups):
    """Returns the weights of a step, (B, H, T, T).

    Args:
        heads: `Heads`, each (B, T, H, d).
        weights: `AttentionWeights`; of parallel paths `PathsWeights`, not used.
        pieces: `StepPieces`.
        prompts: Normalised rows, (1, P, D) each.
        groups: `Groups`.
    """
    images, tokens, count, _ = heads.queries.shape
    made = [
        groups.apart(numerics.reshaped(each, (images, tokens, -1))) for each in heads
    ]
    if pieces:
        made = with_more(made, prompts, weights, SILENT, pieces)
    query, key, _ = (numerics.split_heads(each, count) for each in made)
    size = tokens // groups.count
    found = keras.ops.convert_to_numpy(probabilities(query, key, pieces))
    found = found[..., -size:].reshape(images, groups.count, count, size, size)
    order = np.arange(tokens)
    if not isinstance(groups.order, tuple):
        order = keras.ops.convert_to_numpy(groups.order[0])
    whole = np.zeros((images, count, tokens, tokens), "float32")
    for group, places in enumerate(order.reshape(groups.count, size)):
        whole[:, :, places[:, None], places] = found[:, group]
    return whole
