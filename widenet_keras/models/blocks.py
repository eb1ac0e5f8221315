"""The parts of a model: what a config says about each of them, put together."""

from widenet_keras.layers.attention import Attention
from widenet_keras.layers.attention_pooling import AttentionPooling
from widenet_keras.layers.block import Block
from widenet_keras.layers.embedding import PatchEmbedding
from widenet_keras.layers.feed_forward import FeedForward
from widenet_keras.layers.head import ClassifierHead
from widenet_keras.layers.mixture_of_experts import routed_experts


def block_of(config, index, policy):
    """Returns unique block `index` of a config.

    Args:
        config: `WideNetConfig`.
        index: Which of the U blocks.
        policy: Dtype policy of its layers.
    """
    shared = {
        "activation": config.activation,
        "output_activation": config.output_activation,
        "dropout": config.dropout,
        "dtype": policy,
        "name": "feed_forward",
    }
    if index in config.routed_blocks:
        feed_forward = routed_experts(
            num_experts=config.num_experts,
            expert_dim=config.expert_dim,
            top_k=config.top_k,
            capacity_factor=config.capacity_factor,
            images_per_group=config.images_per_group,
            engine=config.engine,
            router=config.router,
            router_noise=config.router_noise,
            **shared,
        )
    else:
        feed_forward = FeedForward(config.mlp_dim, gated=config.gated, **shared)
    attention = Attention(
        config.heads, config.attention_dropout, dtype=policy, name="attention"
    )
    return Block(
        attention,
        feed_forward,
        config.dropout,
        config.norm_epsilon,
        dtype=policy,
        name=f"block_{index}",
    )


def embedding_of(config, policy):
    """Returns the `PatchEmbedding` of a config; `policy` as for `block_of`."""
    return PatchEmbedding(
        config.width,
        config.patch_size,
        class_token=config.class_token,
        registers=config.registers,
        norm=config.embedding_norm,
        norm_epsilon=config.norm_epsilon,
        dtype=policy,
        name="embedding",
    )


def head_of(config, policy):
    """Returns the `ClassifierHead` of a config; `policy` as for `block_of`."""
    attention = None
    if config.pooling == "attention":
        attention = AttentionPooling(
            config.heads,
            config.mlp_dim,
            config.activation,
            config.norm_epsilon,
            dtype=policy,
            name="attention",
        )
    return ClassifierHead(
        config.num_classes,
        pooling=config.pooling,
        representation=config.representation,
        leading_tokens=config.leading_tokens,
        norm_after_pooling=config.norm_after_pooling,
        norm_epsilon=config.norm_epsilon,
        attention=attention,
        dtype=policy,
        name="head",
    )
