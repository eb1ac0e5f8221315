"""All steps of a depth whose kernels are read from a ring."""

from widenet_keras.layers.attention import AttentionWeights
from widenet_keras.layers.block_math import BlockWeights
from widenet_keras.layers.heads import joined_inner, joins_inner
from widenet_keras.layers.pieces.lora import dense_maps
from widenet_keras.layers.ring import Ring


def kernel_weights(steps, width, hidden, gated):
    """Returns T, how many weights the kernels of dense blocks have.

    Args:
        steps: L.
        width: D.
        hidden: F.
        gated: Whether the MLPs have a gate.
    """
    return steps * (4 * width**2 + (2 + bool(gated)) * width * hidden)


def ring_of_steps(blocks, steps, width, size, seed, policy):
    """Returns the `Ring` of all steps of an encoder, not built.

    Args:
        blocks: List of one `Block`, which is not built.
        steps: L.
        width: D.
        size: N.
        seed: As for `Ring`.
        policy: Dtype policy.

    Raises:
        ValueError: If there are several blocks, or one that has experts, parallel paths
            or weights.
    """
    [block] = blocks if len(blocks) == 1 else [None]
    if block is None or block.is_routed or block.paths > 1 or block.built:
        raise ValueError(
            f"Encoder: with ring_size={size} all steps are like one block, from which "
            "the sizes are taken; give one Block, new, that has an Attention and a "
            "FeedForward."
        )
    block.attention.size_for(width)
    maps = dense_maps(block.sizes(width))
    shapes = {name: (steps, *shape) for name, shape in maps.items()}
    return Ring(size, shapes, seed, dtype=policy, name="ring")


def weights_of_steps(ring, read):
    """Returns the `BlockWeights` of all steps, with a leading axis L, or `()`.

    Args:
        ring: `Ring` of the products of a block; None without.
        read: Function from a Keras variable to its tensor.
    """
    if ring is None:
        return ()
    found = ring.read(read)
    inner = tuple(found[name] for name in ("query", "key", "value"))
    attention = AttentionWeights(inner, found["output"])
    # As the blocks that `untie` makes, so that their answers are the same bit for bit.
    if joins_inner(inner[0].kernel.shape[1], reads=1):
        attention = joined_inner(attention)
    gate = [found["gate"]] if "gate" in found else []
    return BlockWeights(attention, (found["hidden"], found["outer"], *gate))
