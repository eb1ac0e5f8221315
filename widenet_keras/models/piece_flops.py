"""What pieces of the steps cost, by formula."""

from widenet_keras.layers.pieces.lora import ROUTER, dense_maps, expert_maps
from widenet_keras.layers.pieces.piece import Sizes
from widenet_keras.models.config import WideNetConfig


def piece_flops(config: WideNetConfig) -> int:
    """Returns the floating-point operations of the pieces of all steps, for one image.

    Counted are products, at 2 per multiply-add: 2 T r (Din + Dout) for each product
    that has LoRA, K times that for one of experts; 4 T D r for a bottleneck; 4 P D^2
    for the keys and values of P prompts, 4 T D (P + p) for attention to them and to p
    key-value prompts; 4 T (T / G + P + p) H^2 for both mixes of heads; 2 T D b^2 for
    relative keys of b buckets per axis, and 2 T D more with a class token; 4 T D F for
    a projection with F hidden units; 2 s^2 T D for a token convolution of side s.

    Args:
        config: `WideNetConfig`.
    """
    found = (_OF_KINDS.get(piece.kind, _nothing) for piece in config.pieces)
    return sum(
        flops(config, piece) for flops, piece in zip(found, config.pieces, strict=True)
    )


def _lora(c, piece):
    routed, total = set(c.routed_steps), 0
    prompts = _count(c, "prompt")

    def factors(name, shape, whole):
        return 2 * min(piece.rank, *whole) * sum(shape) * (name in piece.on)

    for step, own in enumerate(c.sizes_of_steps):
        is_routed = step in routed
        if is_routed:
            router = c.width, c.num_experts
            total += c.tokens * factors(ROUTER, router, router)
        # A step that takes a part of its block has factors of the block's rank.
        block = c.sizes[c.block_of_step[step]]
        of_step, of_block = (_sizes(c, size, is_routed) for size in (own, block))
        whole = dense_maps(of_block)
        for name, shape in dense_maps(of_step).items():
            rows = c.tokens + prompts * (name in ("key", "value"))
            total += rows * factors(name, shape, whole[name])
        whole = expert_maps(of_block)
        for name, shape in expert_maps(of_step).items():
            total += c.tokens * c.top_k * factors(name, shape, whole[name])
    return total


def _sizes(c, size, is_routed):
    """Returns the `Sizes` of a `BlockSize`."""
    *heads, hidden = size
    if is_routed:
        return Sizes(c.width, *heads, 0, False, c.num_experts, hidden)
    return Sizes(c.width, *heads, hidden, c.gated)


def _bottleneck(c, piece):
    return c.steps * 4 * c.tokens * c.width * piece.rank


def _prompt(c, piece):
    projections = 2 * piece.count * c.width * _keys_and_values(c)
    return projections + _key_value_prompt(c, piece)


def _key_value_prompt(c, piece):
    return 2 * c.tokens * piece.count * _keys_and_values(c)


def _head_mix(c, piece):
    pairs = zip(c.sizes_of_steps, c.groups_of_steps.counts, strict=True)
    more = _count(c, "prompt") + _count(c, "key_value_prompt")
    keys = sum(size.heads**2 * (c.tokens // count + more) for size, count in pairs)
    return 4 * c.tokens * keys


def _relative_keys(c, piece):
    queries = sum(size.heads * size.key_dim for size in c.sizes_of_steps)
    return 2 * c.tokens * queries * (piece.buckets**2 + c.class_token)


def _projection(c, piece):
    return c.steps * 4 * c.tokens * c.width * piece.hidden(c.width)


def _token_conv(c, piece):
    return c.steps * 2 * piece.size**2 * c.tokens * c.width


def _count(c, kind):
    """Returns how many keys all pieces of a kind put in front of the tokens'."""
    return sum(piece.count for piece in c.pieces if piece.kind == kind)


def _keys_and_values(c):
    """Returns how many numbers keys and values of a token have, over all steps."""
    sizes = c.sizes_of_steps
    return sum(size.heads * (size.key_dim + size.value_dim) for size in sizes)


def _nothing(c, piece):
    return 0


_OF_KINDS = {
    "lora": _lora,
    "bottleneck": _bottleneck,
    "prompt": _prompt,
    "key_value_prompt": _key_value_prompt,
    "head_mix": _head_mix,
    "relative_keys": _relative_keys,
    "residual_scale": _nothing,
    "projection": _projection,
    "token_conv": _token_conv,
}
