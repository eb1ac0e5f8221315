"""The square grid that the patches among the tokens of a step form."""

import math


def side_of(owner: str, tokens: int, leading: tuple[int, ...]) -> int:
    """Returns the side of the grid of patches.

    Args:
        owner: Name that starts the message of an error.
        tokens: T.
        leading: How many tokens may stand before the patches.

    Raises:
        ValueError: If these tokens are no square grid.
    """
    side = math.isqrt(tokens)
    if not side or tokens - side**2 not in leading:
        more = ", or a class token before one" if max(leading) else " and nothing else"
        raise ValueError(
            f"{owner}: needs tokens that are a square grid of patches{more}, and there "
            f"are {tokens}; use other tokens, or leave the piece out."
        )
    return side
