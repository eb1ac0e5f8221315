"""What a model that shares its blocks is like, before any of its weights is made."""

from widenet_keras.conversions.tied_weights import groups_of
from widenet_keras.layers.pooling import POOLINGS, WEIGHED
from widenet_keras.layers.sharing import PART_PLANS
from widenet_keras.models.config import WideNetConfig

# What the weights that are carried over were made for.
_KEPT = (
    "image_size",
    "channels",
    "patch_size",
    "width",
    "steps",
    "heads",
    "mlp_dim",
    "activation",
    "output_activation",
    "num_classes",
    "norm_epsilon",
    "gated",
    "embedding_norm",
    "registers",
    "paths",
    "cheap_features",
)
_NESTED = ("nested_widths", "nested_probabilities")


def tied_config(
    owner: str, source: WideNetConfig, base: str, fields: dict
) -> tuple[WideNetConfig, dict[str, dict]]:
    """Returns the `WideNetConfig` of a shared model, and what each block comes from.

    Args:
        owner: Name that starts the message of an error.
        source: `WideNetConfig` of the model that shares a part at most.
        base: As for `tie`.
        fields: Fields of the result, a dict; the others are those of `tie`.

    Returns:
        The config, and a dict from each part to the dict of `groups_of`.

    Raises:
        ValueError: If a field does not fit the weights of the source.
    """
    if source.num_unique_blocks < source.steps:
        raise ValueError(
            f"{owner}: the model shares its blocks already "
            f"(sharing={source.sharing!r}); give one with sharing='none', such as a "
            "ViT, or untie() it first."
        )
    shared = {
        "sharing": "all",
        "unique_blocks": None,
        "moe_blocks": "all",
        "shared_norms": False,
    }
    # Of hidden units that the experts have at last.
    nested = {name: fields.get(name, getattr(source, name)) for name in _NESTED}
    none = dict(zip(_NESTED, ((), None), strict=True))
    config = source.replace(**{**shared, **fields, **none})
    if any(config.groups_of_steps.permuted) and "attention_groups" not in fields:
        raise ValueError(
            f"{owner}: steps that read a block again would permute the tokens that "
            f"attend in groups (attention_groups={config.attention_groups}), as those "
            "of the model do not; give attention_groups=1, or others if that is meant."
        )
    kept = _KEPT if _pools_by_same_weights(config, source) else (*_KEPT, "pooling")
    for field in kept:
        if getattr(config, field) != getattr(source, field):
            raise ValueError(
                f"{owner}: {field}={getattr(config, field)!r} does not fit the weights "
                f"of the model, which has {getattr(source, field)!r}; leave it out."
            )
    for field in ("class_token", "representation"):
        if getattr(config, field) and not getattr(source, field):
            raise ValueError(
                f"{owner}: {field}=True needs weights that the model does not have; "
                "leave it out."
            )
    own = tuple(range(config.steps))
    if config.steps > 1 and all(config.holders(part) == own for part in PART_PLANS):
        raise ValueError(
            f"{owner}: sharing={config.sharing!r} leaves each of the {config.steps} "
            "steps a block of its own; use 'all', or fewer unique_blocks."
        )
    if base == "auto":
        base = "average" if config.routed_blocks else "stepwise"
    groups = {part: groups_of(config, source, base, part) for part in PART_PLANS}
    config = _with_expert_dim(owner, config, source, groups["feed_forward"], fields)
    return config.replace(**nested), groups


def _pools_by_same_weights(config, source):
    """Whether the weights of a head fit both poolings."""
    if config.pooling in WEIGHED:
        return source.pooling == config.pooling
    return POOLINGS[config.pooling] == POOLINGS[source.pooling]


def _with_expert_dim(owner, config, source, groups, fields):
    """Returns the config with the width of the experts that it starts from."""
    widths = {}
    for block, (mixtures, dense) in groups.items():
        if block in config.routed_blocks:
            widths[source.expert_dim if mixtures else source.mlp_dim] = block
            if mixtures and config.num_experts != source.num_experts:
                raise ValueError(
                    f"{owner}: num_experts={config.num_experts} was asked for and the "
                    f"mixtures of the model have {source.num_experts}; leave it out."
                )
        elif not dense:
            raise ValueError(
                f"{owner}: block {block} shall have no experts and all blocks that it "
                "starts from are mixtures; name it in moe_blocks."
            )
    if len(widths) > 1:
        of_mixtures, of_ffns = widths[source.expert_dim], widths[source.mlp_dim]
        raise ValueError(
            f"{owner}: block {of_mixtures} starts from experts of width "
            f"{source.expert_dim} and block {of_ffns} from FFNs of width "
            f"{source.mlp_dim}; leave one of them out of moe_blocks."
        )
    if not widths:
        return config
    [width] = widths
    if fields.get("expert_dim", width) != width:
        raise ValueError(
            f"{owner}: expert_dim={config.expert_dim} was asked for and the weights "
            f"that the experts start from have width {width}; leave it out."
        )
    return config.replace(expert_dim=width)
