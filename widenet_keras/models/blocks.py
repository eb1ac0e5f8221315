"""The blocks of a model: what a config says about one of them, put together."""

from widenet_keras.layers.attention import Attention
from widenet_keras.layers.block import Block
from widenet_keras.layers.feed_forward import FeedForward
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
        feed_forward = FeedForward(config.mlp_dim, **shared)
    attention = Attention(
        config.heads, config.attention_dropout, dtype=policy, name="attention"
    )
    return Block(
        attention, feed_forward, config.dropout, dtype=policy, name=f"block_{index}"
    )
