"""Attention: sizes of its heads, one product or three, Keras' LoRA on a product."""

import keras
import numpy as np
import pytest
from conftest import numpy, shake, tiny_images, tiny_model

from widenet_keras.layers import Attention, TokenAttentionPooling
from widenet_keras.layers.attention import attention
from widenet_keras.layers.heads import joined_inner
from widenet_keras.routing.random_draws import SILENT

TOKENS = np.random.default_rng(0).normal(size=(2, 7, 12)).astype("float32")


def made(*arguments, **sizes):
    layer = Attention(*arguments, **sizes)
    layer.build(TOKENS.shape)
    shake(layer.weights, 0.5)
    return layer


def by_hand(layer):
    """Head by head and image by image, in NumPy."""
    parts = {
        name: [
            numpy(w).astype("float64")
            for w in getattr(layer, f"{name}_projection").weights
        ]
        for name in ("query", "key", "value", "output")
    }
    result = []
    for tokens in TOKENS.astype("float64"):
        query, key, value = (
            np.split(tokens @ kernel + bias, layer.num_heads, axis=-1)
            for kernel, bias in (parts[name] for name in ("query", "key", "value"))
        )
        heads = []
        for q, k, v in zip(query, key, value, strict=True):
            logits = q @ k.T / np.sqrt(q.shape[-1])
            weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
            heads.append(weights / weights.sum(axis=-1, keepdims=True) @ v)
        kernel, bias = parts["output"]
        result.append(np.concatenate(heads, axis=-1) @ kernel + bias)
    return np.stack(result)


@pytest.mark.parametrize(
    "sizes",
    [{}, {"key_dim": 5}, {"key_dim": 5, "value_dim": 3}, {"value_dim": 2}],
    ids=str,
)
def test_heads_of_any_size_equal_the_loop(sizes):
    layer = made(3, **sizes)
    np.testing.assert_allclose(numpy(layer(TOKENS)), by_hand(layer), atol=1e-5)
    again = Attention.from_config(layer.get_config())
    again.build(TOKENS.shape)
    assert again.spec == layer.spec


def test_pooling_by_heads_whose_keys_are_larger_than_values():
    pooling = TokenAttentionPooling(3, key_dim=5, value_dim=2)
    found = numpy(pooling(TOKENS))
    layer = Attention(3, key_dim=5, value_dim=2)
    layer.build(TOKENS.shape)
    layer.set_weights(pooling.get_weights())
    np.testing.assert_allclose(found, numpy(layer(TOKENS))[:, 0], atol=1e-6)


def test_one_product_is_three():
    layer, read = made(4), keras.ops.convert_to_tensor
    weights = layer.read(read)
    joined = joined_inner(weights)
    assert (len(weights.inner), len(joined.inner)) == (3, 1)
    found, wanted = (
        numpy(attention(read(TOKENS), each, layer.spec, SILENT)[0])
        for each in (joined, weights)
    )
    # Processors add up products of other widths in other orders.
    atol = 1e-6 * np.abs(wanted).max()
    np.testing.assert_allclose(found, wanted, rtol=0, atol=atol)
    # Of unequal sizes they stay apart.
    assert len(joined_inner(made(2, value_dim=3).read(read)).inner) == 3


def test_lora_of_keras_reaches_a_product():
    model, images = tiny_model(steps=2), tiny_images(2)
    before = numpy(model(images))
    product = model.encoder.blocks[0].attention.query_projection
    product.enable_lora(2)
    np.testing.assert_allclose(numpy(model(images)), before, atol=1e-6)
    product.lora_kernel_b.assign(np.ones(product.lora_kernel_b.shape))
    found = numpy(model(images))
    assert np.abs(found - before).max() > 1e-4
    kernel = numpy(product.kernel)
    product.lora_kernel_b.assign(np.zeros(product.lora_kernel_b.shape))
    product._kernel.assign(kernel)
    np.testing.assert_allclose(numpy(model(images)), found, atol=1e-5)
