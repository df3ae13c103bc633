"""The interface of anchor samplers."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import Tensor, nn

from diffsegkit.interfaces import AggregatedAttention


class AnchorSampler(nn.Module, ABC):
    """Chooses the locations whose maps are the first proposals."""

    @abstractmethod
    def forward(
        self, aggregated: AggregatedAttention, points_per_side: int
    ) -> Tensor | Sequence[Tensor]:
        """Sample.

        Args:
            aggregated: One distribution per location, for a batch of B images.
            points_per_side: How many anchors along each axis are asked for, at least 1; the grid
                may have fewer cells than that.

        Returns:
            Locations int64 on the attention's device, ``(M,)`` for all images alike, or one such
            tensor per image; their numbers may differ. Merging depends on their order.
        """
