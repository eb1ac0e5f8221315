"""Which weights of a model an optimizer treats alike, read from their roles.

Layer-wise decay has no meaning where one weight serves every depth; the groups are
what a WideNet has instead.
"""

from widenet_keras.utils.checks import check_choice, check_number
from widenet_keras.utils.roles import GROUPS, said_role


def group_of(variable):
    """Returns the group of a weight, one of `GROUPS`.

    "norms" and "pieces" are what steps keep for themselves, "core" is what they
    share: attention, router, experts, dense MLPs. Weights of layers of other packages
    are "core".

    Args:
        variable: `keras.Variable`.
    """
    role = said_role(variable)
    return "core" if role is None else role.group


def is_decayed(variable):
    """Whether weight decay applies: not to norms, biases, the position table.

    Of layers of other packages vectors are left out.
    """
    role = said_role(variable)
    return len(variable.shape) > 1 if role is None else role.decayed


def is_stacked(variable):
    """Whether a weight is a stack of independent ones along its first axis.

    So are the weights of a bank of experts, one per expert, and what the steps of an
    encoder keep for themselves, one per step.

    Args:
        variable: `keras.Variable`.
    """
    role = said_role(variable)
    return role is not None and role.stacked is not None


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
