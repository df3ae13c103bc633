"""The part that brings attention of several grids to one."""

from abc import ABC, abstractmethod

from torch import nn

from diffsegkit.interfaces.attention import AggregatedAttention, SourceOutput


class Aggregator(nn.Module, ABC):
    """Combines attention maps of several grids into one map per location of one grid."""

    @abstractmethod
    def forward(self, output: SourceOutput) -> AggregatedAttention:
        """Aggregate.

        Args:
            output: What the source gave for a batch of images.

        Returns:
            One distribution per location, ``(B, N, N)``, with ``output`` as its ``source``.
        """
