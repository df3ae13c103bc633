"""DiffSeg's anchors: a regular grid."""

import torch
from torch import Tensor

from diffsegkit.interfaces import AggregatedAttention
from diffsegkit.mergers.anchors.sampler import AnchorSampler


class GridAnchors(AnchorSampler):
    """Evenly spaced locations, rows before columns, as the original's ``generate_sampling_grid``.

    Example:
        >>> import torch
        >>> from diffsegkit import AggregatedAttention
        >>> aggregated = AggregatedAttention(torch.eye(20)[None], grid=(4, 5))
        >>> GridAnchors()(aggregated, points_per_side=2)
        tensor([ 0,  4, 15, 19])
    """

    def forward(self, aggregated: AggregatedAttention, points_per_side: int) -> Tensor:
        """Sample; see :class:`AnchorSampler`."""
        height, width = aggregated.grid
        rows = torch.tensor(evenly_spaced(height, points_per_side))
        columns = torch.tensor(evenly_spaced(width, points_per_side))
        locations = (rows[:, None] * width + columns).flatten()
        return locations.to(aggregated.device)


def evenly_spaced(side: int, points: int) -> list[int]:
    """Indices along one axis, with the original's rounding.

    Args:
        side: How many cells the axis has.
        points: How many indices are asked for; never more than there are cells.

    Returns:
        ``min(points, side)`` indices, rising; the centre if that is one.

    Example:
        >>> evenly_spaced(64, 16)
        [1, 5, 9, 13, 17, 21, 25, 29, 33, 37, 41, 45, 49, 53, 57, 61]
        >>> evenly_spaced(23, 1)
        [11]
    """
    points = min(points, side)
    step = (side - 1) // (points - 1) if points > 1 else 0
    start = (side - 1 - step * (points - 1)) // 2
    return [start + step * i for i in range(points)]
