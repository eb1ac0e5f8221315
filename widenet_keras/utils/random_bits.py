"""How many random bits dropout draws for an entry.

Random words are made for 32 or 64 bits, and making them is what dropout costs on an
accelerator. Two or four entries share a word of 32 bits: the rate is then a multiple of
2^-16 or 2^-8, and the scale is that of this rate.
"""

# How far the rate of a mask may be from the one that was asked for.
_RATE_TOLERANCE = 0.02


def bits_for(rate):
    """Returns how many random bits an entry needs, so that its rate comes within 2 %.

    Args:
        rate: Rate of dropped entries; that of the entries kept counts as well.
    """
    allowed = _RATE_TOLERANCE * min(rate, 1.0 - rate)
    near = (b for b in (8, 16) if abs(round(rate * 2**b) / 2**b - rate) <= allowed)
    return next(near, 32)


def limit_and_scale(rate, bits):
    """Returns the least unsigned number whose entry is kept, and the scale of those.

    Args:
        rate: Rate of dropped entries.
        bits: Of an entry, see `bits_for`.
    """
    limit = round(rate * 2**bits)
    return limit, 1.0 / (1.0 - limit / 2**bits)
