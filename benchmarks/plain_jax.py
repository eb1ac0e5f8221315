"""A ViT as functions of JAX, which the models of this package are set against."""

import jax
import jax.numpy as jnp
import numpy as np

from widenet_keras.utils import attention_jax


def weights_of(fields):
    """Returns the weights of a ViT, a tree of float32 arrays.

    Args:
        fields: Fields of `WideNetConfig` that say its sizes.
    """
    random = np.random.default_rng(0)

    def weight(*shape):
        return jnp.asarray(0.02 * random.normal(size=shape).astype("float32"))

    width, hidden, size = fields["width"], fields["mlp_dim"], fields["patch_size"]
    tokens = (fields["image_size"] // size) ** 2 + 1
    channels, classes = fields["channels"], fields["num_classes"]
    return {
        "patches": (weight(size, size, channels, width), weight(width)),
        "token": weight(1, 1, width),
        "position": weight(tokens, width),
        "blocks": [
            (
                (weight(width), weight(width)),
                (weight(width, 3 * width), weight(3 * width)),
                (weight(width, width), weight(width)),
                (weight(width), weight(width)),
                (weight(width, hidden), weight(hidden)),
                (weight(hidden, width), weight(width)),
            )
            for _ in range(fields["steps"])
        ],
        "norm": (weight(width), weight(width)),
        "head": (weight(width, classes), weight(classes)),
    }


def logits(weights, images, heads, dtype):
    """Returns the logits of images (B, height, width, channels), float32."""
    weights, images = jax.tree.map(lambda a: a.astype(dtype), (weights, images))
    kernel, bias = weights["patches"]
    x = jax.lax.conv_general_dilated(
        images,
        kernel,
        window_strides=kernel.shape[:2],
        padding="VALID",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    x = x.reshape(len(x), -1, x.shape[-1]) + bias
    token = jnp.broadcast_to(weights["token"], (len(x), 1, x.shape[-1]))
    x = jnp.concatenate([token, x], 1) + weights["position"]
    for norm1, inner, output, norm2, hidden, outer in weights["blocks"]:
        joined = _linear(_normalized(x, *norm1), *inner)
        parts = joined.reshape(*x.shape[:2], 3, heads, -1)
        mixed = attention_jax.attended(*(parts[:, :, part] for part in range(3)))
        x = x + _linear(mixed.reshape(x.shape), *output)
        inside = jax.nn.gelu(_linear(_normalized(x, *norm2), *hidden))
        x = x + _linear(inside, *outer)
    made = _linear(_normalized(x[:, 0], *weights["norm"]), *weights["head"])
    return made.astype("float32")


def training_step(state, images, labels, heads, dtype):
    """Returns the state after a step of AdamW, and the loss.

    Args:
        state: Weights, and the mean of gradients and of their squares.
        images: (B, height, width, channels).
        labels: (B,) integers.
        heads: H.
        dtype: Of all that is computed between weights and logits.
    """
    weights, first, second = state

    def loss(weights):
        found = jax.nn.log_softmax(logits(weights, images, heads, dtype))
        return -jnp.mean(jnp.take_along_axis(found, labels[:, None], 1))

    value, gradients = jax.value_and_grad(loss)(weights)
    first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, gradients)
    second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g**2, second, gradients)
    weights = jax.tree.map(
        lambda w, m, v: w - 1e-3 * (m / (jnp.sqrt(v) + 1e-7) + 0.01 * w),
        *(weights, first, second),
    )
    return (weights, first, second), value


def _linear(x, kernel, bias):
    return x @ kernel + bias


def _normalized(x, gamma, beta):
    wide = x.astype("float32")
    wide = wide - wide.mean(-1, keepdims=True)
    wide *= jax.lax.rsqrt(jnp.square(wide).mean(-1, keepdims=True) + 1e-6)
    return (wide * gamma + beta).astype(x.dtype)
