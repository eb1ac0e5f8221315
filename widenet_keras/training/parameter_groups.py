"""Which weights of a model an optimizer treats alike, read from their paths."""

from widenet_keras.utils.checks import check_choice, check_number

# Layer-wise decay has no meaning where one weight serves every depth; these
# four are what a WideNet has instead.
GROUPS = ("embedding", "core", "norms", "head")
_UNDECAYED = ("bias", "gamma", "beta", "position")
_NORMS = ("norm1", "norm2")


def group_of(variable):
    """Returns the group of a weight: "embedding", "core", "norms" or "head".

    "norms" are the private LayerNorms of the steps, "core" is what the steps
    share: attention, router, experts, dense MLPs. Weights of other models are
    "core".

    Args:
        variable: `keras.Variable`.
    """
    layers = variable.path.split("/")[:-1]
    if "encoder" in layers:
        return "norms" if any(name in layers for name in _NORMS) else "core"
    for group in ("embedding", "head"):
        if group in layers:
            return group
    return "core"


def is_decayed(variable):
    """Whether weight decay applies: not to norms, biases, the position table."""
    return not variable.path.split("/")[-1].endswith(_UNDECAYED)


def is_stacked(variable):
    """Whether a weight is a stack of independent ones along its first axis.

    So are the weights of a bank of experts, one per expert, and the norms of an
    encoder, one per step.

    Args:
        variable: `keras.Variable`.
    """
    layers = variable.path.split("/")[:-1]
    return "experts" in layers or group_of(variable) == "norms"


def checked_rates(owner, rates):
    """Returns the factor of every group, 1.0 where `rates` names none.

    Args:
        owner: Who asks, for the message.
        rates: Dict from group to a factor of the learning rate, or None.

    Raises:
        ValueError: If a group is unknown or a factor is negative.
    """
    rates = dict(rates or {})
    for group, factor in rates.items():
        check_choice(owner, "rates", group, GROUPS)
        check_number(owner, f"rates[{group!r}]", factor, 0.0)
    return {group: float(rates.get(group, 1.0)) for group in GROUPS}
