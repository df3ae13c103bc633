"""Anchors where attention gathers."""

from math import ceil

import torch
from torch import Tensor

from diffsegkit import AggregatedAttention
from diffsegkit.mergers.anchors import AnchorSampler
from diffsegkit_walk.rank import token_rank


class TokenRankAnchors(AnchorSampler):
    """The locations with the highest TokenRank, kept apart.

    The paper ranks tokens by the stationary distribution of attention (see :func:`token_rank`); it
    has no anchors. Taking the highest ranks alone would put them all into one object. So, which is
    ours, the best is taken, and whatever is nearer to it than the spacing that a grid of as many
    anchors has is out; then the best of the rest, and so on. The order is that of the ranks, so
    that merging begins where attention gathers most. Of equal ranks the first location wins.

    Args:
        teleport: See :func:`token_rank`.

    Raises:
        ValueError: If ``teleport`` is out of its range.

    Example:
        >>> import torch
        >>> from diffsegkit import AggregatedAttention
        >>> probs = torch.full((6, 6), 0.1)
        >>> probs[:, 4] = 0.5  # all attend to location 4
        >>> [anchors] = TokenRankAnchors()(AggregatedAttention(probs[None], (2, 3)), 1)
        >>> anchors
        tensor([4])
    """

    def __init__(self, teleport: float = 0.01) -> None:
        super().__init__()
        if not 0 < teleport <= 1:
            raise ValueError(f"Expected argument `teleport` above 0, up to 1, but got {teleport}.")
        self.teleport = teleport

    @torch.no_grad()
    def forward(self, aggregated: AggregatedAttention, points_per_side: int) -> list[Tensor]:
        """Sample.

        Args:
            aggregated: One distribution per location, for a batch of B images.
            points_per_side: At most its square are chosen, and never more than there are
                locations.

        Returns:
            B tensors ``(M,)`` int64, the best rank first.
        """
        found = []
        for image in range(aggregated.batch_size):
            rows = aggregated.select(slice(image, image + 1)).rows(slice(None))[0]
            rank = token_rank(rows, self.teleport)
            found.append(_spread(rank, aggregated.grid, points_per_side).to(aggregated.device))
        return found

    def extra_repr(self) -> str:
        """The options, for ``repr``."""
        return f"teleport={self.teleport}"


def _spread(rank: Tensor, grid: tuple[int, int], points_per_side: int) -> Tensor:
    """Locations by rank, each at least a grid's spacing from those before, row- or columnwise."""
    height, width = grid
    # Rounding would order equal ranks by chance.
    order = (rank * len(rank)).round(decimals=9).sort(descending=True, stable=True).indices
    spacing = [max(1, ceil(side / points_per_side)) for side in grid]
    free = torch.ones(height, width, dtype=torch.bool)
    chosen: list[int] = []
    for location in order.tolist():
        row, column = divmod(location, width)
        if not free[row, column]:
            continue
        chosen.append(location)
        if len(chosen) == points_per_side**2:
            break
        rows = slice(max(0, row - spacing[0] + 1), row + spacing[0])
        columns = slice(max(0, column - spacing[1] + 1), column + spacing[1])
        free[rows, columns] = False
    return torch.tensor(chosen)
