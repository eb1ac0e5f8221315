"""What pieces of the steps cost, by formula."""

from widenet_keras.layers.pieces.lora import (
    ATTENTION_MAPS,
    ROUTER,
    dense_maps,
    expert_maps,
)
from widenet_keras.layers.pieces.piece import Sizes
from widenet_keras.models.config import WideNetConfig


def piece_flops(config: WideNetConfig) -> int:
    """Returns the floating-point operations of the pieces of all steps, for one image.

    Counted are products, at 2 per multiply-add: 2 T r (Din + Dout) for each product
    that has LoRA, K times that for one of experts; 4 T D r for a bottleneck; 4 P D^2
    for the keys and values of P prompts, 4 T D (P + p) for attention to them and to p
    key-value prompts.

    Args:
        config: `WideNetConfig`.
    """
    found = (_OF_KINDS.get(piece.kind, _nothing) for piece in config.pieces)
    return sum(
        flops(config, piece) for flops, piece in zip(found, config.pieces, strict=True)
    )


def _lora(c, piece):
    key_dim, mixtures = c.width // c.heads, len(c.routed_steps)
    sizes = Sizes(
        c.width,
        c.heads,
        key_dim,
        key_dim,
        c.mlp_dim,
        c.gated,
        c.num_experts,
        c.expert_dim,
    )

    def factors(name, shape):
        return 2 * min(piece.rank, *shape) * sum(shape) * (name in piece.on)

    prompts = sum(each.count for each in c.pieces if each.kind == "prompt")
    total = 0
    for name, shape in dense_maps(sizes).items():
        steps = c.steps if name in ATTENTION_MAPS else c.steps - mixtures
        rows = c.tokens + prompts * (name in ("key", "value"))
        total += steps * rows * factors(name, shape)
    for name, shape in expert_maps(sizes).items():
        total += mixtures * c.tokens * c.top_k * factors(name, shape)
    router = c.width, c.num_experts
    return total + mixtures * c.tokens * factors(ROUTER, router)


def _bottleneck(c, piece):
    return c.steps * 4 * c.tokens * c.width * piece.rank


def _prompt(c, piece):
    projections = 4 * piece.count * c.width**2
    return c.steps * projections + _key_value_prompt(c, piece)


def _key_value_prompt(c, piece):
    return c.steps * 4 * c.tokens * piece.count * c.width


def _nothing(c, piece):
    return 0


_OF_KINDS = {
    "lora": _lora,
    "bottleneck": _bottleneck,
    "prompt": _prompt,
    "key_value_prompt": _key_value_prompt,
}
