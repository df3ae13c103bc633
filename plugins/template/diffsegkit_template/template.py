"""Two proposals: what is near the mean map, and the rest."""

import torch
from diffsegkit import Merger, Proposals
from diffsegkit.kernels import pairwise_kl


class TemplateMerger(Merger):
    """Two proposals: the maps that are near the mean map, and the rest.

    Args:
        quantile: The share of the maps that counts as near, from 0 to 1.

    Raises:
        ValueError: If ``quantile`` is not from 0 to 1.
    """

    def __init__(self, quantile: float = 0.5) -> None:
        super().__init__()
        if not 0 <= quantile <= 1:
            raise ValueError(f"Expected argument `quantile` to be from 0 to 1, but got {quantile}.")
        self.quantile = quantile

    def forward(self, aggregated, *, num_segments=None):
        return [self.split(maps, aggregated.grid) for maps in aggregated.rows(slice(None))]

    def split(self, maps, grid):
        distance = pairwise_kl(maps, maps.mean(0, keepdim=True))[:, 0]
        near = distance <= distance.quantile(self.quantile)
        halves = [maps[part].mean(0) for part in (near, ~near) if part.any()]
        return Proposals(torch.stack(halves).reshape(-1, *grid))
