"""What tokens look at, as plain arrays that can be printed and drawn."""

import dataclasses

import keras
import numpy as np

from widenet_keras.layers.attention_weights import attention_weights
from widenet_keras.models.image_checks import batches_of
from widenet_keras.models.routing_map import answered
from widenet_keras.utils import numerics

# Poolings of heads that read other tokens than the class token by itself.
_READ_ALL, _READ_PATCHES = ("mean",), ("patches", "attention")


@dataclasses.dataclass(frozen=True)
class AttentionMap:
    """How much the tokens of some images look at each other at every step.

    A row is what one token looks at and adds up to one. It does not where prompts take
    the rest, or where mixed heads (`HeadMix`) have weights below zero.

    Attributes:
        weights: (L, B, H, T, T) float32, from each token to each token; in H heads, of
            n parallel paths in n H, those of the first in front.
        heads: (L,) heads of each step; where one has fewer than H, the last are zeros.
        grid: (rows, columns) of the patches.
        class_token: Whether token 0 is the class token, before the patches.
        registers: How many registers follow it, before the patches.
        readers: First and end of the tokens that the head of the model reads; where it
            reads the class token beside all patches, that token.
        logits: (B, classes) float32, what the model answered; None without classes.
        class_names: Names of the classes; None if the model knows none.
    """

    weights: np.ndarray
    heads: tuple
    grid: tuple
    class_token: bool
    registers: int
    readers: tuple
    logits: np.ndarray | None = None
    class_names: tuple | None = None

    @property
    def count(self):
        """B, number of images."""
        return self.weights.shape[1]

    def received(self, image: int) -> np.ndarray:
        """Returns what the tokens that the head reads look at, (L, rows, columns).

        The class token's attention where the head reads it, else the mean over the
        tokens that it takes the mean of; the mean over the heads of attention. What
        goes to class token and registers is left out.

        Args:
            image: Index of the image.
        """
        leading = int(self.class_token) + self.registers
        first, end = self.readers
        rows = self.weights[:, image, :, first:end, leading:].mean(axis=2)
        found = rows.sum(axis=1) / np.array(self.heads, "float32")[:, None]
        return found.reshape(-1, *self.grid)


def attention_of(model, images: np.ndarray, batch_size: int) -> AttentionMap:
    """Returns the `AttentionMap` of some images; see `WideNet.attention`.

    Args:
        model: A `WideNet`.
        images: NumPy array (B, height, width, channels) float.
        batch_size: Images per forward pass.

    Raises:
        ValueError: If the images do not fit, or there are none.
    """
    config, tokens = model.config, model.config.tokens
    sizes = [block.spec(False).heads for block in model.encoder.blocks]
    of_steps = [sizes[block] for block in model.encoder.block_of_step]
    heads = tuple(count for count, *_ in of_steps)
    shape = config.steps, len(images), max(heads), tokens, tokens
    weights = np.zeros(shape, "float32")
    logits = np.zeros((len(images), config.outputs), "float32")
    for start, batch in batches_of("attention", images, config.image_shape, batch_size):
        place = slice(start, start + len(batch))
        # What steps hand out is stacked, so those of one size are looked at together.
        for size in dict.fromkeys(of_steps):
            steps = tuple(s for s, each in enumerate(of_steps) if each == size)
            with numerics.without_gradients():
                answers, seen = model(batch, training=False, look_at=steps)
            logits[place] = keras.ops.convert_to_numpy(answers)
            each_step = attention_weights(model.encoder, seen, steps)
            for step, found in zip(steps, each_step, strict=True):
                weights[step, place, : heads[step]] = found
    return AttentionMap(
        weights=weights,
        heads=heads,
        grid=config.grid,
        class_token=config.class_token,
        registers=config.registers,
        readers=_readers(config),
        **answered(model, logits),
    )


def _readers(config):
    """Returns first and end of the tokens that a head reads."""
    if config.pooling == "token_and_register":
        return 0, 2
    if config.pooling in _READ_ALL:
        return 0, config.tokens
    if config.pooling in _READ_PATCHES:
        return config.leading_tokens, config.tokens
    return 0, 1
