"""The part that gives each pixel to a proposal."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import Tensor, nn

from diffsegkit.interfaces.attention import AggregatedAttention
from diffsegkit.interfaces.proposals import Proposals


class Assigner(nn.Module, ABC):
    """Assigns every pixel to one proposal (the paper calls this non-maximum suppression)."""

    @abstractmethod
    def forward(
        self,
        proposals: Sequence[Proposals],
        size: tuple[int, int],
        *,
        aggregated: AggregatedAttention | None = None,
    ) -> Tensor:
        """Assign.

        Args:
            proposals: One per image, B in all.
            size: ``(H, W)`` of the label maps, in pixels.
            aggregated: What the proposals were merged from; through its ``source`` an assigner
                may look at the image.

        Returns:
            Label maps ``(B, H, W)`` int64. An id is the index of a proposal of that image;
            :class:`~diffsegkit.Segmenter` closes the gaps that proposals without a pixel leave.
        """
