"""How much of the hidden layer a step takes: by its plan, or drawn in training."""

from typing import NamedTuple

from widenet_keras.utils import numerics
from widenet_keras.utils.checks import check_integer


class Widths(NamedTuple):
    """How much of its hidden layer each step takes, the first of its units.

    Attributes:
        step_widths: How many each step takes, a tuple of length L; None for all.
        nested_widths: Fractions, ascending to 1, of which each batch of training takes
            one, the same for all steps ("MatFormer", arXiv 2310.07707, equation 2).
        nested_probabilities: How probable each of them is; None for equally.
    """

    step_widths: tuple[int, ...] | None = None
    nested_widths: tuple[float, ...] = ()
    nested_probabilities: tuple[float, ...] | None = None

    def check(self, owner: str, most: tuple[int, ...]):
        """Raises `ValueError` unless the widths fit the blocks.

        Args:
            owner: Name that starts the message.
            most: How many hidden units the block of each step has.
        """
        if self.step_widths is not None:
            _check_steps(owner, self.step_widths, most)
        none = isinstance(self.nested_widths, tuple) and not self.nested_widths
        if not none or self.nested_probabilities is not None:
            self._check_nested(owner, most)

    def _check_nested(self, owner, most):
        fixed, widths, chances = self
        ascending = _are_numbers(widths) and widths[-1:] == (1,)
        pairs = zip((0, *widths), widths, strict=False) if ascending else ()
        if not ascending or any(before >= after for before, after in pairs):
            raise ValueError(
                f"{owner}: nested_widths={widths!r} must be fractions that ascend to "
                "1.0, such as (0.125, 0.25, 0.5, 1.0)."
            )
        if fixed is not None:
            raise ValueError(
                f"{owner}: nested_widths are drawn for all steps and step_widths="
                f"{fixed} are fixed; leave one of them out."
            )
        for count in sorted(set(most)):
            for width in widths:
                units_of(owner, f"nested_widths has {width:g}, which", width, count)
        if chances is None:
            return
        fits = _are_numbers(chances) and len(chances) == len(widths)
        if not fits or abs(sum(chances) - 1) > 1e-6:
            raise ValueError(
                f"{owner}: nested_probabilities={chances!r} must be {len(widths)} "
                "positive numbers that add up to 1, one for each of nested_widths; for "
                "equal ones leave it out."
            )

    def of_pass(self, draws, steps: int):
        """Returns which part of the hidden units each step takes, (L,), or `()`.

        Args:
            draws: `RandomDraws` of a forward pass of training.
            steps: L.
        """
        if len(self.nested_widths) < 2:
            # A single one is all of them.
            return ()
        count = len(self.nested_widths)
        chances = self.nested_probabilities or (1 / count,) * count
        return numerics.stacked([draws.share(self.nested_widths, chances)] * steps)


def _check_steps(owner, widths, most):
    if not isinstance(widths, tuple) or len(widths) != len(most):
        raise ValueError(
            f"{owner}: step_widths={widths!r} must have the hidden width of each of "
            f"the {len(most)} steps; for all of a block leave it out."
        )
    for step, (width, limit) in enumerate(zip(widths, most, strict=True)):
        check_integer(owner, f"step_widths[{step}]", width, 1)
        if width > limit:
            raise ValueError(
                f"{owner}: step_widths[{step}]={width} is more than the {limit} hidden "
                "units of its block; use at most these."
            )


def units_of(owner: str, said: str, fraction: float, count: int) -> int:
    """Returns how many hidden units a fraction of so many is.

    Args:
        owner: Name that starts the message of an error.
        said: What was given, for that message.
        fraction: The fraction, in (0, 1].
        count: The number of hidden units.

    Raises:
        ValueError: If it is no whole number of them.
    """
    units = fraction * count
    if round(units) >= 1 and abs(units - round(units)) < 1e-6 * count:
        return round(units)
    near = sorted({max(1, int(units)), min(count, int(units) + 1)})
    raise ValueError(
        f"{owner}: {said} is {units:g} of {count} hidden units; use a whole number of "
        f"them, such as {' or '.join(f'{each / count:g}' for each in near)}."
    )


def _are_numbers(values):
    return isinstance(values, tuple) and all(
        isinstance(value, int | float) and not isinstance(value, bool) and value > 0
        for value in values
    )
