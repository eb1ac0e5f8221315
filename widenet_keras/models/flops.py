"""What a model costs, by formula: the arithmetic that its definition asks for."""

from widenet_keras.layers.pooling import POOLINGS
from widenet_keras.models.block_sizes import BlockSize
from widenet_keras.models.config import WideNetConfig
from widenet_keras.models.piece_flops import piece_flops


def forward_flops(config: WideNetConfig) -> int:
    """Returns the floating-point operations of one image's forward pass.

    Counted are the matrix products, at 2 per multiply-add: what `attention_flops` and
    `feed_forward_flops` say of each step, what `piece_flops` says of pieces, and
    embedding and head with its pooling. Training costs three times that.

    Args:
        config: `WideNetConfig`.
    """
    c = config
    patches = c.grid[0] * c.grid[1]
    tokens = c.tokens
    routed = set(c.routed_steps)
    pairs = zip(c.sizes_of_steps, c.groups_of_steps.counts, strict=True)
    steps = sum(
        attention_flops(c, size, groups) + feed_forward_flops(c, size, step in routed)
        for step, (size, groups) in enumerate(pairs)
    )
    embedding = 2 * patches * c.patch_size**2 * c.channels * c.width
    pooled = POOLINGS[c.pooling] * c.width
    head = 2 * pooled * c.num_classes + 2 * c.representation * c.width**2
    if c.pooling == "attention":
        # Keys and values of the patches, and what the one query does with them.
        head += 4 * patches * c.width**2 + 4 * patches * c.width
        head += 2 * c.width**2 + 4 * c.width * c.mlp_dim
    if c.pooling == "token_attention":
        # Keys and values of all tokens, for the query of one.
        head += 4 * tokens * c.width**2 + 4 * tokens * c.width + 4 * c.width**2
    return embedding + steps + piece_flops(c) + head


def attention_flops(config: WideNetConfig, size: BlockSize, groups: int = 1) -> int:
    """Returns the operations of a step's attention.

    4 T D H (k + v) + 2 T^2 / G H (k + v); with k = v = D / H they are 8 T D^2 for the
    projections and 4 T^2 D / G for the two products of tokens with tokens. Of n
    parallel paths n times that.

    Args:
        config: `WideNetConfig`.
        size: `BlockSize` of what the step computes with.
        groups: G, in which its tokens attend.
    """
    tokens, heads = config.tokens, size.heads * (size.key_dim + size.value_dim)
    one = 4 * tokens * config.width * heads + 2 * tokens**2 // groups * heads
    return config.paths * one


def feed_forward_flops(config: WideNetConfig, size: BlockSize, routed: bool) -> int:
    """Returns the operations of a step's feed-forward part.

    4 T D F for a dense MLP, 6 T D F for a gated one, n times that for n parallel
    paths; K * 4 T D F + 2 T D E for a mixture of experts (the K experts that a token
    uses, and the router).

    Args:
        config: `WideNetConfig`.
        size: `BlockSize` of what the step computes with.
        routed: Whether it is a mixture of experts.
    """
    rows = config.tokens * config.width
    if routed:
        return rows * (4 * config.top_k * size.hidden + 2 * config.num_experts)
    return config.paths * (6 if config.gated else 4) * rows * size.hidden
