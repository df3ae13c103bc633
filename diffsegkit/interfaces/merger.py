"""The part that merges many attention maps into a few proposals."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import nn

from diffsegkit.interfaces.attention import AggregatedAttention
from diffsegkit.interfaces.proposals import Proposals


class Merger(nn.Module, ABC):
    """Merges the maps of all locations into a few distributions, a different number per image."""

    @abstractmethod
    def forward(
        self,
        aggregated: AggregatedAttention,
        *,
        num_segments: Sequence[int] | None = None,
    ) -> list[Proposals]:
        """Merge.

        Args:
            aggregated: One distribution per location, for a batch of B images.
            num_segments: How many segments each image has, for oracle baselines; every other
                merger ignores it.

        Returns:
            B proposals.
        """
