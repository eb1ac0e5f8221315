"""What is checked of a configuration, field by field and together."""

from widenet_keras.layers.depth import REMATS, SCANS
from widenet_keras.layers.head import POOLINGS
from widenet_keras.layers.sharing import check_sharing
from widenet_keras.routing.capacity import check_capacity
from widenet_keras.routing.engines import check_engine
from widenet_keras.routing.router import ROUTERS, check_groups
from widenet_keras.utils import checks
from widenet_keras.utils.numerics import ACTIVATIONS

OWNER = "WideNetConfig"


# The fields that say how large a model is.
SIZES = (
    "image_size",
    "channels",
    "patch_size",
    "width",
    "steps",
    "heads",
    "mlp_dim",
    "num_experts",
    "expert_dim",
    "num_classes",
)


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
    for field in (*SIZES, "top_k", "images_per_group"):
        checks.check_integer(OWNER, field, getattr(config, field), 1)
    for field in ["dropout", "attention_dropout", "stochastic_depth"]:
        checks.check_number(OWNER, field, getattr(config, field), 0.0, below=1.0)
    for field in ["router_noise", "balance_loss_weight", "router_z_loss_weight"]:
        checks.check_number(OWNER, field, getattr(config, field), 0.0)
    for field in ["shared_norms", "class_token", "representation"]:
        checks.check_flag(OWNER, field, getattr(config, field))
    check_capacity(OWNER, config.capacity_factor)


def _check_choices(config):
    """Checks the fields that are names."""
    checks.check_choice(OWNER, "router", config.router, tuple(ROUTERS))
    check_engine(OWNER, config.engine)
    checks.check_choice(OWNER, "scan", config.scan, SCANS)
    checks.check_choice(OWNER, "remat", config.remat, REMATS)
    checks.check_choice(OWNER, "pooling", config.pooling, POOLINGS)
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
    if config.pooling == "token" and not config.class_token:
        raise ValueError(
            f"{OWNER}: pooling='token' needs class_token=True; set it, or use "
            "pooling='mean'."
        )
    checks.check_top_k(OWNER, config.top_k, config.num_experts)
    if config.router == "grouped_top_1":
        check_groups(OWNER, config.top_k, config.num_experts)
    check_sharing(OWNER, config.sharing, config.steps, config.unique_blocks)
    _check_moe_blocks(config)


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
