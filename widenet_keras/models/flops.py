"""What a model costs, by formula: the arithmetic that its definition asks for."""

from widenet_keras.layers.pooling import POOLINGS
from widenet_keras.models.piece_flops import piece_flops


def forward_flops(config):
    """Returns the floating-point operations of one image's forward pass.

    Counted are the matrix products, at 2 per multiply-add: 8 T D^2 for the
    projections of a step's attention, 4 T^2 D for its two products, 4 T D F for
    a dense MLP (6 T D F for a gated one), K * 4 T D F + 2 T D E for a mixture of
    experts (the K experts that a token uses), what `piece_flops` says of pieces, and
    embedding and head with its pooling. Training costs three times that.

    Args:
        config: `WideNetConfig`.
    """
    c = config
    patches = c.grid[0] * c.grid[1]
    tokens = c.tokens
    attention = 8 * tokens * c.width**2 + 4 * tokens**2 * c.width
    dense = (6 if c.gated else 4) * tokens * c.width * c.mlp_dim
    routed = c.top_k * 4 * tokens * c.width * c.expert_dim
    routed += 2 * tokens * c.width * c.num_experts
    mixtures = len(c.routed_steps)
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
    steps = c.steps * attention + mixtures * routed + (c.steps - mixtures) * dense
    return embedding + steps + piece_flops(c) + head
