"""Routing and attention of some images as few bytes."""

import base64
import zlib

import numpy as np

# Bytes of attention, before they are compressed, that a page may hold.
_MOST_ATTENTION = 3 * 2**20
# Bytes that it may take in memory at a time, as floats and with all its heads.
_AT_ONCE = 2**27
# Shares of the largest weight of a token that can be told apart: fewer compress more.
_LEVELS = 31


def packed(values):
    """Returns whole numbers as compressed text, and how they are read again.

    Args:
        values: NumPy array of numbers from 0 to 65,535.
    """
    dtype = "<u1" if values.max(initial=0) < 256 else "<u2"
    content = zlib.compress(values.astype(dtype).tobytes(), 9)
    return {
        "bytes": int(dtype[-1]),
        "shape": list(values.shape),
        "data": base64.b64encode(content).decode("ascii"),
    }


def routing_content(model, images):
    """Returns the experts and gates of every token at every step.

    Args:
        model: An `ImageClassifier` with experts.
        images: NumPy array (B, height, width, channels) in [-1, 1].

    Returns:
        Dict: "steps", "num_experts", and (B, S, T, K) "experts" and "gates", these in
        255ths.
    """
    routing = model.routing(images)
    gates = np.rint(255 * np.clip(routing.gates, 0, 1)).astype(int)
    return {
        "steps": list(routing.steps),
        "num_experts": routing.num_experts,
        "experts": packed(np.swapaxes(routing.experts, 0, 1)),
        "gates": packed(np.swapaxes(gates, 0, 1)),
    }


def attention_content(model, images):
    """Returns where tokens look at each step, the mean of the heads.

    A page holds the attention of all tokens of as many images as fit, and of all
    images what the token that the head reads looks at.

    Args:
        model: An `ImageClassifier`.
        images: NumPy array (B, height, width, channels) in [-1, 1].

    Returns:
        Dict: (B, L, P) "received" by the P patches, (N, L, T, P) "weights" that the
        tokens of N images give them, each in `levels`ths of the largest of its map,
        and these largest ones, in 65,535ths: (B, L) "received_most", (N, L, T) "most".
    """
    c = model.config
    patches = c.grid[0] * c.grid[1]
    whole = max(1, _MOST_ATTENTION // (c.steps * c.tokens * patches))
    floats = 4 * c.steps * max(size.heads for size in c.sizes_of_steps) * c.tokens**2
    together = max(1, _AT_ONCE // floats)
    received, weights = [], []
    for first in range(0, len(images), together):
        found = model.attention(images[first : first + together])
        count = found.weights.shape[1]
        received += [
            found.received(image).reshape(c.steps, patches) for image in range(count)
        ]
        for image in range(min(count, whole - len(weights))):
            weights.append(_mean_of_heads(found, image)[..., -patches:])
    shares, most = _levels(np.stack(weights))
    received, received_most = _levels(np.stack(received))
    return {
        "levels": _LEVELS,
        "weights": packed(shares),
        "most": packed(most),
        "received": packed(received),
        "received_most": packed(received_most),
    }


def _mean_of_heads(found, image):
    """Returns (L, T, T) of an `AttentionMap`; some steps may have fewer heads."""
    return found.weights[:, image].sum(axis=1) / np.reshape(found.heads, (-1, 1, 1))


def _levels(weights):
    """Returns weights as shares of the largest of their last axis, and these."""
    # Heads that are mixed may give less than nothing.
    weights = np.maximum(weights, 0)
    most = weights.max(axis=-1)
    shares = weights / np.maximum(most, 1e-12)[..., None]
    most = np.rint(65535 * np.clip(most, 0, 1)).astype(int)
    return np.rint(_LEVELS * shares).astype(int), most
