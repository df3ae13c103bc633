"""The least that any method must beat."""

import torch
from torch import Tensor

from diffsegkit.segmenters.image_segmenter import ImageSegmenter


class OneSegment(ImageSegmenter):
    """The whole image as one segment.

    Scores above zero that it reaches are what a protocol gives away for free.

    Example:
        >>> import torch
        >>> [segmentation] = OneSegment()(torch.rand(3, 4, 6))
        >>> segmentation.num_segments
        1
    """

    def label_map(self, image: Tensor) -> Tensor:
        """Zeros.

        Args:
            image: ``(3, H, W)``.

        Returns:
            ``(H, W)`` int64.
        """
        return torch.zeros(image.shape[1:], dtype=torch.int64)
