"""Thresholds from the distances themselves, so that no backbone needs its own."""

import numpy as np
import torch
from scipy.cluster.hierarchy import linkage  # type: ignore[import-untyped]
from torch import Tensor


def otsu_threshold(distances: Tensor) -> float:
    """The threshold that parts distances into small and large ones (Otsu, 1979).

    Of all ways to cut the sorted distances in two, that with the largest variance between the two
    groups; the threshold lies halfway between their nearest members. Distances within segments and
    between them are such groups. Exact, not over a histogram, so that twice the distances have
    twice the threshold.

    Args:
        distances: ``(M,)``, at least 0.

    Returns:
        The threshold; infinity where all distances are alike, so that all is one segment.

    Example:
        >>> import torch
        >>> otsu_threshold(torch.tensor([0.25, 0.5, 0.25, 2.0, 2.25]))
        1.25
    """
    values = distances.double().sort().values
    if len(values) < 2 or _alike(values):
        return float("inf")
    count = torch.arange(1, len(values), dtype=torch.float64, device=values.device)
    sums = values.cumsum(0)
    low = sums[:-1] / count
    high = (sums[-1] - sums[:-1]) / (len(values) - count)
    between = count * (len(values) - count) * (high - low).square()
    cut = int(between.argmax())
    return _halfway(values, cut)


def gap_threshold(distances: Tensor, most: int = 20) -> float:
    """The threshold at the largest gap of the dendrogram of average linkage.

    Of the last ``most`` merges of agglomerative clustering, that before which the height grows by
    the largest factor; the threshold lies halfway between the two heights.

    Args:
        distances: ``(M, M)``, symmetric, zero on the diagonal.
        most: How many segments there may be at the most.

    Returns:
        The threshold; infinity where all distances are alike.

    Example:
        >>> import torch
        >>> at = torch.tensor([0.0, 0.1, 0.2, 5.0, 5.1])
        >>> 0.2 < gap_threshold((at[:, None] - at).abs()) < 5
        True
    """
    square = distances.double().cpu().numpy()
    upper = square[np.triu_indices(len(square), 1)]
    if len(upper) < 2 or _alike(torch.from_numpy(upper)):
        return float("inf")
    heights = torch.from_numpy(linkage(upper, "average")[:, 2])[-most:]
    if len(heights) < 2:
        return float("inf")
    # A height of zero joins what is equal: any height above is infinitely larger.
    floor = float(heights.max()) * 1e-6
    factors = heights[1:].clamp_min(floor) / heights[:-1].clamp_min(floor)
    return _halfway(heights, int(factors.argmax()))


def quantile_threshold(distances: Tensor, quantile: float = 0.25) -> float:
    """The distance below which a share of all distances lies.

    Args:
        distances: ``(M,)``, at least 0.
        quantile: The share.

    Returns:
        The threshold; infinity where all distances are alike.

    Example:
        >>> import torch
        >>> quantile_threshold(torch.arange(5.0), 0.5)
        2.0
    """
    values = distances.double()
    if len(values) < 2 or _alike(values):
        return float("inf")
    # torch.quantile takes sixteen million values at the most.
    return float(np.quantile(values.cpu().numpy(), quantile))


def _alike(values: Tensor) -> bool:
    """Whether distances differ by rounding alone."""
    low, high = torch.aminmax(values)
    return float(high - low) <= 1e-6 * max(float(high), 1e-3)


def _halfway(values: Tensor, index: int) -> float:
    return float(values[index] + values[index + 1]) / 2
