"""The optional part that names segments."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from diffsegkit.interfaces.attention import AggregatedAttention


class Namer(nn.Module, ABC):
    """Gives every segment a name; segments of one name become one afterwards.

    A fifth part, which a :class:`~diffsegkit.Segmenter` may do without.
    """

    @abstractmethod
    def forward(self, labels: Tensor, *, aggregated: AggregatedAttention) -> list[list[str]]:
        """Name the segments of a batch of images.

        Args:
            labels: ``(B, H, W)`` int64, ids 0..K_b-1 without gaps in each image.
            aggregated: What they come from; through its ``source`` a namer sees the image, and
                cross-attention where the source gives it.

        Returns:
            B lists of K_b names, the name of id ``k`` at ``k``. Names may be equal.
        """
