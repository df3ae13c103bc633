"""Lloyd's algorithm over the maps of one image, shared by refinement and K-means."""

import torch
from torch import Tensor

from diffsegkit.interfaces import AggregatedAttention

ROW_BLOCK = 1024
"""Maps that pass by at a time: 16 MiB of a 64x64 grid."""

_MAX_ITERATIONS = 300  # scikit-learn's default, which the original uses
_TOLERANCE = 1e-4  # likewise, relative to the mean variance of the coordinates


def lloyd(aggregated: AggregatedAttention, centres: Tensor) -> Tensor:
    """Move ``centres`` to the means of the maps nearest to them until nothing changes.

    The stopping rule and the treatment of empty clusters (each takes the map furthest from its
    centre) are those of scikit-learn's ``KMeans`` with ``n_init=1``, on which the original relies.

    Args:
        aggregated: One image, ``(1, N, N)``.
        centres: ``(K, N)`` to start from.

    Returns:
        ``(K, N)`` cluster means.
    """
    tolerance = _TOLERANCE * _mean_variance(aggregated)
    previous: Tensor | None = None
    for _ in range(_MAX_ITERATIONS):
        labels, squared, sums = _assign(aggregated, centres)
        counts = torch.bincount(labels, minlength=len(centres))
        _fill_empty(aggregated, labels, squared, sums, counts)
        moved = sums / counts[:, None]
        shift = float((moved - centres).square().sum())
        centres = moved
        if (previous is not None and torch.equal(labels, previous)) or shift <= tolerance:
            break
        previous = labels
    return centres


def _assign(aggregated: AggregatedAttention, centres: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of each map the nearest centre and squared distance, ``(N,)``; sums per centre ``(K, N)``."""
    num_locations = aggregated.num_locations
    labels = torch.empty(num_locations, dtype=torch.int64, device=centres.device)
    squared = centres.new_empty(num_locations)
    sums = torch.zeros_like(centres)
    norms = centres.square().sum(1)
    for start in range(0, num_locations, ROW_BLOCK):
        block = slice(start, start + ROW_BLOCK)
        maps = aggregated.rows(block)[0]
        # |x - c|^2 = |x|^2 + (|c|^2 - 2 x.c), and the bracket alone decides which is nearest.
        nearest, labels[block] = torch.addmm(norms, maps, centres.mT, alpha=-2).min(1)
        squared[block] = nearest + maps.square().sum(1)
        sums.index_add_(0, labels[block], maps)
    return labels, squared, sums


def _fill_empty(
    aggregated: AggregatedAttention, labels: Tensor, squared: Tensor, sums: Tensor, counts: Tensor
) -> None:
    """Give each empty cluster the map furthest from its centre; changes sums and counts."""
    empty = (counts == 0).nonzero().flatten()
    if len(empty) == 0:
        return
    furthest = squared.topk(len(empty)).indices
    maps = aggregated.rows(furthest)[0]
    for cluster, location, moved in zip(empty, furthest, maps, strict=True):
        donor = labels[location]
        if counts[donor] == 1:
            # The donor would be empty instead (all maps alike): keep both centres on that map.
            sums[cluster], counts[cluster] = moved, 1
            continue
        sums[donor] -= moved
        counts[donor] -= 1
        sums[cluster], counts[cluster] = moved, 1
        labels[location] = cluster


def _mean_variance(aggregated: AggregatedAttention) -> float:
    """The variance of each coordinate over all maps, averaged over the coordinates."""
    num_locations = aggregated.num_locations
    sums = torch.zeros(num_locations, dtype=torch.float64)
    squares = 0.0
    for start in range(0, num_locations, ROW_BLOCK):
        maps = aggregated.rows(slice(start, start + ROW_BLOCK))[0]
        sums += maps.sum(0).cpu()
        squares += float(maps.square().sum())
    mean = sums / num_locations
    total = squares / num_locations - float(mean.square().sum())
    return max(total / num_locations, 0.0)
