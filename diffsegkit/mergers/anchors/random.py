"""Anchors drawn at random."""

import torch
from torch import Tensor

from diffsegkit.interfaces import AggregatedAttention
from diffsegkit.mergers.anchors.sampler import AnchorSampler


class RandomAnchors(AnchorSampler):
    """Locations drawn without replacement, the same for every image of one grid.

    As many as a grid of anchors would have, or all locations if there are fewer.

    Args:
        seed: Equal seeds give equal anchors, on any device and in any batch.

    Example:
        >>> import torch
        >>> from diffsegkit import AggregatedAttention
        >>> aggregated = AggregatedAttention(torch.eye(20)[None], grid=(4, 5))
        >>> RandomAnchors(seed=0)(aggregated, points_per_side=2).unique().numel()
        4
    """

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.seed = seed

    def forward(self, aggregated: AggregatedAttention, points_per_side: int) -> Tensor:
        """Sample; see :class:`AnchorSampler`."""
        generator = torch.Generator().manual_seed(self.seed)
        locations = torch.randperm(aggregated.num_locations, generator=generator)
        return locations[: points_per_side**2].to(aggregated.device)

    def extra_repr(self) -> str:
        """The options, for ``repr``."""
        return f"seed={self.seed}"
