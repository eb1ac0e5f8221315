"""The parts of a model: what a config says about each of them, put together."""

from widenet_keras.layers.attention import Attention
from widenet_keras.layers.attention_pooling import AttentionPooling
from widenet_keras.layers.block import Block
from widenet_keras.layers.embedding import PatchEmbedding
from widenet_keras.layers.encoder import Encoder
from widenet_keras.layers.feed_forward import FeedForward
from widenet_keras.layers.head import ClassifierHead
from widenet_keras.layers.mixture_of_experts import routed_experts
from widenet_keras.layers.parallel_paths import ParallelPaths
from widenet_keras.layers.token_attention_pooling import TokenAttentionPooling


def blocks_of(config, policy):
    """Returns the U unique blocks of a config; one for all steps that read a ring.

    Args:
        config: `WideNetConfig`.
        policy: Dtype policy of their layers.
    """
    blocks, count = [], config.num_unique_blocks
    for index in range(count if config.ring_size is None else 1):
        attention = _shared(blocks, "attention", config, index)
        feed_forward = _shared(blocks, "feed_forward", config, index)
        block = Block(
            attention or _attention_of(config, index, policy),
            feed_forward or _feed_forward_of(config, index, policy),
            config.dropout,
            config.norm_epsilon,
            dtype=policy,
            name=f"block_{index}",
        )
        blocks.append(block)
    return blocks


def _shared(blocks, part, config, index):
    """Returns the part that an earlier block holds, or None."""
    holder = config.holders(part)[index]
    return getattr(blocks[holder], part) if holder < index else None


def _attention_of(config, index, policy):
    heads, *dims, _ = config.sizes[index]
    # Of blocks of equal sizes they follow from the width, as files always had them.
    dims = dims if config.block_sizes else [None, None]

    def attention(name):
        dropout = config.attention_dropout
        return Attention(heads, dropout, *dims, dtype=policy, name=name)

    return _in_paths(config, attention, "attention", policy)


def _feed_forward_of(config, index, policy):
    shared = {
        "activation": config.activation,
        "output_activation": config.output_activation,
        "dropout": config.dropout,
        "dtype": policy,
    }
    hidden = config.sizes[index].hidden
    if index in config.routed_blocks:
        return routed_experts(
            num_experts=config.num_experts,
            expert_dim=hidden,
            top_k=config.top_k,
            capacity_factor=config.capacity_factor,
            images_per_group=config.images_per_group,
            engine=config.engine,
            router=config.router,
            router_noise=config.router_noise,
            name="feed_forward",
            **shared,
        )

    def feed_forward(name):
        return FeedForward(hidden, gated=config.gated, name=name, **shared)

    return _in_paths(config, feed_forward, "feed_forward", policy)


def _in_paths(config, make, name, policy):
    """Returns the sub-layer that a function of its name makes, or several in parallel.

    A config of one path makes no layer around it, so that files stay as they were.
    """
    if config.paths == 1:
        return make(name)
    return ParallelPaths(
        [make(f"path_{path}") for path in range(config.paths)],
        config.cheap_features,
        config.norm_epsilon,
        dtype=policy,
        name=name,
    )


def embedding_of(config, policy):
    """Returns the `PatchEmbedding` of a config; `policy` as for `blocks_of`."""
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


def encoder_of(config, policy, seed):
    """Returns the `Encoder` of a config; `policy` as for `blocks_of`."""
    return Encoder(
        blocks_of(config, policy),
        config.steps,
        sharing=config.encoder_sharing,
        shared_norms=config.shared_norms,
        stochastic_depth=config.stochastic_depth,
        scan=config.scan,
        remat=config.remat,
        pieces=config.pieces,
        step_widths=config.step_widths,
        nested_widths=config.nested_widths,
        nested_probabilities=config.nested_probabilities,
        attention_groups=config.attention_groups,
        ring_size=config.ring_size,
        ring_seed=config.ring_seed,
        seed=seed,
        dtype=policy,
        name="encoder",
    )


def head_of(config, policy):
    """Returns the `ClassifierHead` of a config; `policy` as for `blocks_of`."""
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
    elif config.pooling == "token_attention":
        attention = TokenAttentionPooling(config.heads, dtype=policy, name="attention")
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
