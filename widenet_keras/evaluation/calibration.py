"""Whether a model is as often right as it says it is."""

import dataclasses

import numpy as np

BINS = 15


@dataclasses.dataclass(frozen=True)
class CalibrationBin:
    """Images whose confidence is in (low, high].

    Attributes:
        low: Lower end, not included.
        high: Upper end, included.
        count: Number of images.
        confidence: Their mean confidence; None without images.
        accuracy: Fraction of them that are right; None without images.
    """

    low: float
    high: float
    count: int
    confidence: float | None
    accuracy: float | None


def calibration_bins(outcomes, bins=BINS):
    """Returns the images in bins of equal width by their confidence.

    Args:
        outcomes: `Outcomes`.
        bins: M, number of bins.
    """
    edges = np.linspace(0.0, 1.0, bins + 1)
    place = np.searchsorted(edges, outcomes.confidence, side="left") - 1
    place = np.clip(place, 0, bins - 1)
    right = outcomes.rank == 0
    found = []
    for index in range(bins):
        inside = place == index
        any_inside = bool(inside.any())
        found.append(
            CalibrationBin(
                low=float(edges[index]),
                high=float(edges[index + 1]),
                count=int(inside.sum()),
                confidence=(
                    float(outcomes.confidence[inside].mean()) if any_inside else None
                ),
                accuracy=float(right[inside].mean()) if any_inside else None,
            )
        )
    return tuple(found)


def calibration_error(bins):
    """Returns the expected calibration error, 0 for a model that knows itself.

    ECE = sum over the bins m of |B_m| / n * |acc(B_m) - conf(B_m)|, with the bins
    ((m - 1) / M, m / M] of the confidence and M = 15. Source: Guo et al., "On
    Calibration of Modern Neural Networks" (arXiv 1706.04599), equation 3.

    Args:
        bins: As `calibration_bins` returns them.
    """
    total = sum(each.count for each in bins)
    gaps = [
        each.count * abs(each.accuracy - each.confidence) for each in bins if each.count
    ]
    return sum(gaps) / total
