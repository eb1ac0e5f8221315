"""What is checked of a configuration, field by field and together."""

import reprlib

from widenet_keras.layers.depth import REMATS, SCANS
from widenet_keras.layers.parallel_paths import CHEAP_FEATURES, check_around
from widenet_keras.layers.pooling import check_pooling
from widenet_keras.layers.ring import check_size
from widenet_keras.layers.ring_of_steps import kernel_weights
from widenet_keras.layers.sharing import check_sharing
from widenet_keras.layers.widths import Widths
from widenet_keras.models.block_sizes import check_block_sizes
from widenet_keras.routing.capacity import check_capacity
from widenet_keras.routing.engines import check_engine
from widenet_keras.routing.router import ROUTERS
from widenet_keras.utils import checks
from widenet_keras.utils.numerics import ACTIVATIONS

OWNER = "WideNetConfig"


# The fields that say how large a model is, with the least that each can be.
SIZES = {
    "image_size": 1,
    "channels": 1,
    "patch_size": 1,
    "width": 1,
    "steps": 1,
    "heads": 1,
    "mlp_dim": 1,
    "num_experts": 1,
    "expert_dim": 1,
    "num_classes": 0,
    "registers": 0,
    "paths": 1,
}
_FLAGS = ("shared_norms", "class_token", "representation", "gated", "embedding_norm")


def check_config(config):
    """Raises `ValueError` if a field of a `WideNetConfig` is wrong; one line says it.

    Args:
        config: `WideNetConfig`.
    """
    _check_ranges(config)
    _check_choices(config)
    _check_fit(config)


def _check_ranges(config):
    """Checks the fields one by one."""
    least = {**SIZES, "top_k": 1, "images_per_group": 1}
    for field, minimum in least.items():
        checks.check_integer(OWNER, field, getattr(config, field), minimum)
    for field in ["dropout", "attention_dropout", "stochastic_depth"]:
        checks.check_number(OWNER, field, getattr(config, field), 0.0, below=1.0)
    for field in ["router_noise", "balance_loss_weight", "router_z_loss_weight"]:
        checks.check_number(OWNER, field, getattr(config, field), 0.0)
    checks.check_positive(OWNER, "norm_epsilon", config.norm_epsilon)
    for field in _FLAGS:
        checks.check_flag(OWNER, field, getattr(config, field))
    check_capacity(OWNER, config.capacity_factor)


def _check_choices(config):
    """Checks the fields that are names."""
    checks.check_choice(OWNER, "router", config.router, tuple(ROUTERS))
    check_engine(OWNER, config.engine)
    checks.check_choice(OWNER, "cheap_features", config.cheap_features, CHEAP_FEATURES)
    checks.check_choice(OWNER, "scan", config.scan, SCANS)
    checks.check_choice(OWNER, "remat", config.remat, REMATS)
    check_pooling(
        OWNER, config.pooling, config.norm_after_pooling, config.representation
    )
    names = tuple(ACTIVATIONS)
    checks.check_choice(OWNER, "activation", config.activation, names)
    checks.check_choice(
        OWNER, "output_activation", config.output_activation, (None, *names)
    )


def _check_fit(config):
    """Checks that the fields fit each other."""
    if config.image_size % config.patch_size:
        raise ValueError(
            f"{OWNER}: image_size={config.image_size} is not divisible by "
            f"patch_size={config.patch_size}; change one of them."
        )
    if config.width % config.heads:
        raise ValueError(
            f"{OWNER}: width={config.width} is not divisible by "
            f"heads={config.heads}; change one of them."
        )
    if config.pooling.startswith("token") and not config.class_token:
        raise ValueError(
            f"{OWNER}: pooling={config.pooling!r} needs class_token=True; set it, or "
            "use pooling='mean'."
        )
    if config.pooling == "token_and_register" and not config.registers:
        raise ValueError(
            f"{OWNER}: pooling='token_and_register' needs registers >= 1 and there "
            "are 0; set them, or use pooling='token'."
        )
    ROUTERS[config.router].check(OWNER, config.top_k, config.num_experts)
    check_sharing(OWNER, config.sharing, config.steps, config.unique_blocks)
    _check_moe_blocks(config)
    if config.gated and config.routed_blocks:
        raise ValueError(
            f"{OWNER}: gated=True is for dense feed-forward parts and moe_blocks="
            f"{config.moe_blocks!r} asks for experts; use moe_blocks='none', or "
            "gated=False."
        )
    _check_paths(config)
    check_block_sizes(OWNER, config)
    hidden = [size.hidden for size in config.sizes]
    most = tuple(hidden[block] for block in config.block_of_step)
    widths = (getattr(config, field) for field in Widths._fields)
    Widths(*widths).check(OWNER, most)
    _check_attention_groups(config)
    _check_ring(config)
    for piece in config.pieces:
        piece.check(OWNER, config)


def _check_attention_groups(config):
    """Checks in which groups the tokens of the steps attend."""
    groups = config.groups_of_steps
    if max(groups.counts) > 1 and config.leading_tokens:
        raise ValueError(
            f"{OWNER}: attention_groups={config.attention_groups} would leave a class "
            f"token or registers in one of the groups; use class_token=False and "
            "registers=0, or attention_groups=1."
        )
    groups.check(OWNER, config.tokens, config.pieces)


def _check_paths(config):
    """Checks what parallel paths go together with."""
    if config.paths == 1:
        if config.cheap_features != "none":
            raise ValueError(
                f"{OWNER}: cheap_features={config.cheap_features!r} is made of several "
                "paths and there is paths=1; use paths=2, or leave it out."
            )
        return
    if config.routed_blocks:
        raise ValueError(
            f"{OWNER}: paths={config.paths} is for dense blocks and moe_blocks="
            f"{config.moe_blocks!r} asks for experts; use moe_blocks='none', or "
            "paths=1 and more of num_experts."
        )
    check_around(OWNER, config.pieces, config.paths)


def check_one_path(owner, config):
    """Raises `ValueError` for blocks of parallel paths.

    Args:
        owner: Who asks, for the message.
        config: `WideNetConfig`.
    """
    if config.paths > 1:
        raise ValueError(
            f"{owner}: takes models of one path and this one has paths={config.paths}; "
            "build one with paths=1."
        )


def _check_ring(config):
    """Checks that the kernels of all steps can be read from a ring."""
    checks.check_integer(OWNER, "ring_seed", config.ring_seed, 0)
    size = config.ring_size
    if size is None:
        return
    checks.check_integer(OWNER, "ring_size", size, 1)
    plain = {
        "sharing": "none",
        "moe_blocks": "none",
        "shared_norms": False,
        "block_sizes": None,
        "step_widths": None,
        "paths": 1,
    }
    for field, wanted in plain.items():
        given = getattr(config, field)
        if given != wanted:
            raise ValueError(
                f"{OWNER}: ring_size={size} is for dense blocks of one size that share "
                f"nothing else, and {field} is {reprlib.repr(given)}; use "
                f"{field}={wanted!r}, or ring_size=None."
            )
    sizes = config.steps, config.width, config.mlp_dim, config.gated
    check_size(OWNER, "ring_size", size, kernel_weights(*sizes))


def _check_moe_blocks(config):
    """Checks which blocks shall be mixtures of experts."""
    blocks, unique = config.moe_blocks, config.num_unique_blocks
    if blocks in ("all", "none"):
        return
    fits = isinstance(blocks, tuple) and all(
        isinstance(b, int) and not isinstance(b, bool) and -unique <= b < unique
        for b in blocks
    )
    if not fits:
        raise ValueError(
            f"{OWNER}: moe_blocks={blocks!r} must be 'all', 'none' or a tuple of "
            f"block indices from {-unique} to {unique - 1} (there are {unique} "
            "unique blocks)."
        )
    routed, holders = config.routed_blocks, config.holders("feed_forward")
    for block, holder in enumerate(holders):
        if (block in routed) != (holder in routed):
            raise ValueError(
                f"{OWNER}: moe_blocks={blocks!r} has only one of the blocks {holder} "
                f"and {block}, which share their experts (sharing={config.sharing!r}); "
                "give all blocks of a group, or none."
            )
